"""People choose between answers without knowing what wrote them or what the judge said.

Start at `sample`, which draws what is reviewed; `showing` says what an annotator sees and in which order,
`figures` what the choices come to. The choices themselves are in `data.reviews`.
"""
