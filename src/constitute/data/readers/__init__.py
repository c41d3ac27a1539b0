"""Public shapes of rows: preferences, instructions and conversations, read for prompts, pairs and SFT alike.

To add one, write a module with a `Family` and give it a line in `FAMILIES`.
"""

from __future__ import annotations

# Name -> "module:object", in the order in which a row is compared with them; the first that fits reads it.
FAMILIES: dict[str, str] = {
    "shp": "constitute.data.readers.shp:FAMILY",
    "oasst_trees": "constitute.data.readers.oasst:TREES",
    "oasst_messages": "constitute.data.readers.oasst:MESSAGES",
    "webgpt": "constitute.data.readers.webgpt:FAMILY",
    "summaries": "constitute.data.readers.summaries:FAMILY",
    "summary_axes": "constitute.data.readers.summaries:AXES",
    "stack_exchange": "constitute.data.readers.stack_exchange:FAMILY",
    "ultrafeedback": "constitute.data.readers.ultrafeedback:FAMILY",
    "gpt4_llm": "constitute.data.readers.gpt4_llm:FAMILY",
    "pku_saferlhf": "constitute.data.readers.pku_saferlhf:FAMILY",
    "helpsteer2_preference": "constitute.data.readers.helpsteer:PREFERENCE_2",
    "helpsteer2": "constitute.data.readers.helpsteer:RATINGS_2",
    "helpsteer3": "constitute.data.readers.helpsteer:PREFERENCE_3",
    "ranked": "constitute.data.readers.ranked:RANKED",
    "scored": "constitute.data.readers.ranked:SCORED",
    "nectar": "constitute.data.readers.nectar:FAMILY",
    "rewardbench2": "constitute.data.readers.rewardbench:SECOND",
    "rewardbench": "constitute.data.readers.rewardbench:FIRST",
    "scored_pair": "constitute.data.readers.scored_pair:FAMILY",
    "openai_preference": "constitute.data.readers.openai_preference:FAMILY",
    "nemo_rl": "constitute.data.readers.nemo_rl:FAMILY",
    "unpaired": "constitute.data.readers.unpaired:FAMILY",
    "red_team": "constitute.data.readers.red_team:FAMILY",
    "real_toxicity": "constitute.data.readers.real_toxicity:FAMILY",
    "choices": "constitute.data.readers.choices:HHH",
    "hhh_438": "constitute.data.readers.choices:HHH_438",
    "truthfulqa": "constitute.data.readers.choices:TRUTHFULQA",
    "unnatural": "constitute.data.readers.instructions:UNNATURAL",
    "super_natural": "constitute.data.readers.instructions:SUPER_NATURAL",
    "alpaca": "constitute.data.readers.instructions:ALPACA",
    "gpteacher": "constitute.data.readers.instructions:GPTEACHER",
    "dolly": "constitute.data.readers.instructions:DOLLY",
    "oasst_instruction": "constitute.data.readers.instructions:OASST",
    "flan": "constitute.data.readers.instructions:FLAN",
    "sharegpt": "constitute.data.readers.sharegpt:FAMILY",
    "oig": "constitute.data.readers.oig:FAMILY",
}
