"""What trained models and shards show of states, structure and geometry: functions, no verb."""
