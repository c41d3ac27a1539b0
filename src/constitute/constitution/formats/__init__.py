"""Which file formats a constitution is imported from and exported to: `FORMATS`, a line for each.

Start at `convert`; a new format is a module with a `base.Format` and a line here.
"""

# Name -> "module:object" of its `base.Format`, in the order in which a file is tried.
FORMATS = {
    "yaml": "constitute.constitution.formats.yaml:YAML",
    "markdown": "constitute.constitution.formats.markdown:MARKDOWN",
    "model-spec": "constitute.constitution.formats.model_spec:MODEL_SPEC",
    "list": "constitute.constitution.formats.lists:LIST",
    "prose": "constitute.constitution.formats.prose:PROSE",
    "cai-revise": "constitute.constitution.formats.cai:REVISING",
    "cai-compare": "constitute.constitution.formats.cai:COMPARING",
    "hf": "constitute.constitution.formats.llm_swarm:LLM_SWARM",
    "salmon": "constitute.constitution.formats.salmon:SALMON",
    "icai": "constitute.constitution.formats.icai:ICAI",
}
