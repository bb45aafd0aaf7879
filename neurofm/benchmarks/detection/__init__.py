"""Events found in long recordings: seizures against their annotation."""
