"""Who may be looked at when: spans, the rules that make splits of them, splits from files."""
