"""Messages of the API as JSON values and back.

This is the JSON that the HTTP API and `--output json` speak. It is the protobuf JSON mapping with
the following choices:

- names are the proto's own, in snake_case; camelCase is taken on input as well;
- an enum value is its short lower-case name (`"healthy"`); the full name
  (`"HEALTH_STATUS_HEALTHY"`), the short name in any case and the number are taken as well;
- scalars, lists and maps are always there; messages and optional scalars that are not set are left
  out, and nothing is ever null. A `google.protobuf.Struct` (`metadata`) is always an object;
- 64-bit integers are strings, as the mapping says; numbers are taken as well;
- the keys of maps and Structs are sorted;
- numbers inside a Struct that are integral and at most 2^53 are integers. Larger integers, which
  a double would not keep exactly, are refused on input, and so is what is nested more than 30 deep;
- a field mask keeps its paths as they are (a path may hold a user's metadata key); a first segment
  in camelCase is taken on input.

Messages are converted by a plan that is made once for each message type from its descriptor. The
functions are safe to call from several threads.
"""

from ose.registry.jsonform._enums import enum_name
from ose.registry.jsonform._printing import JsonObject, field_to_json, to_dict
from ose.registry.jsonform._reading import FieldForm, fields_of, from_dict
from ose.registry.jsonform._violations import FormError, Violation

__all__ = [
    "FieldForm",
    "FormError",
    "JsonObject",
    "Violation",
    "enum_name",
    "field_to_json",
    "fields_of",
    "from_dict",
    "to_dict",
]
