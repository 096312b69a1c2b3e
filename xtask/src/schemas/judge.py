"""Says of each line of a file, a schema and an answer, whether the answer is valid for Python's jsonschema, formats included; numbers are decimals,
since multiples of 0.01 are none in binary."""

import json
import sys
from decimal import Decimal

from jsonschema.validators import validator_for

for line in open(sys.argv[1], encoding="utf-8"):
    schema, text = json.loads(line, parse_float=Decimal)
    kind = validator_for(schema)
    errors = kind(schema, format_checker=kind.FORMAT_CHECKER).iter_errors(json.loads(text, parse_float=Decimal))
    first = next(errors, None)
    print("valid" if first is None else first.message.replace("\n", " "))
