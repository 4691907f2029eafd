"""What a person sees: tables, figures and pages, made of plain data. Knows no JAX."""
