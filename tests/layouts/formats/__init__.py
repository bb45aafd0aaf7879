"""Writers of the file formats that no library here writes, or that a published set writes in its own way."""
