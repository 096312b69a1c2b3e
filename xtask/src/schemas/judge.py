"""Says of each line of a file, a schema and an answer, whether the answer is valid for Python's jsonschema, formats included."""

import json
import sys

from jsonschema.validators import validator_for

for line in open(sys.argv[1], encoding="utf-8"):
    schema, text = json.loads(line)
    kind = validator_for(schema)
    errors = kind(schema, format_checker=kind.FORMAT_CHECKER).iter_errors(json.loads(text))
    first = next(errors, None)
    print("valid" if first is None else first.message.replace("\n", " "))
