"""Classical baselines that every model stands beside: chance, ridge, vector autoregression, shrinkage LDA."""
