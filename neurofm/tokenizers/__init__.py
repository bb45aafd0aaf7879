"""Signal → tokens.

A tokenizer is built as ``TOKENIZERS.build(name, dim, patch_samples=…, **choices)``. It maps a signal
(B, C, samples) to tokens (B, T, C, dim), and `patch_features` gives what it embeds, (B, T, C, n_features),
which regression objectives take as their target.
"""

from neurofm.schema.registry import Registry

TOKENIZERS = Registry(
    "tokenizer",
    {
        "linear_patch": "neurofm.tokenizers.linear_patch:LinearPatch",
        "log_spectrum": "neurofm.tokenizers.log_spectrum:LogSpectrum",
        "wavelet": "neurofm.tokenizers.wavelet:WaveletPatch",
    },
)
