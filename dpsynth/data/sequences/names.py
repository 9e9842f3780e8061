"""Which columns of a sequence schema are attributes and which are features, derived ones included."""

from __future__ import annotations

from dpsynth.data.schema import Schema

START = "@start"  # the first time of a sequence, an attribute
GAP = "@gap"  # time since the previous row, a feature; 0 at the first row


def models_times(schema: Schema) -> bool:
    """Whether times are generated: there is a time column and no declared calendar."""
    return schema.sequence.time is not None and schema.sequence.calendar is None


def attribute_names(schema: Schema) -> tuple[str, ...]:
    """Attributes in the schema's order, then the start where times are modelled. Public."""
    names = [c.name for c in schema.modelled if c.name in schema.sequence.attributes]
    return (*names, START) if models_times(schema) else tuple(names)


def feature_names(schema: Schema) -> tuple[str, ...]:
    """Features in the schema's order, then the gap where times are modelled. Public."""
    outside = (*schema.sequence.attributes, schema.sequence.time)
    names = [c.name for c in schema.modelled if c.name not in outside]
    return (*names, GAP) if models_times(schema) and schema.sequence.max_length > 1 else tuple(names)
