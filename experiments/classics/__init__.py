"""The classic texts on backpropagation: each run again, its numbers checked, its pictures drawn.

One module a text; `shared` is what they have in common, `wheat` belongs to brownlee, `decay` and `batches` to misconceptions.
"""
