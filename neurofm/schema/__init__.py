"""The words that data preparation and training share. numpy only at import."""
