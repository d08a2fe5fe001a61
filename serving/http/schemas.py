"""JSON schemas of what the service takes and gives: those of the types that read requests and write answers."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from serving.http import answers
from serving.model.contract import Contract
from serving.model.features import VALUES
from serving.model.rows import MANY
from serving.model.unseen import Unseen
from serving.requests.body import LARGEST_BATCH
from serving.requests.decoder import request_type, row_types
from serving.requests.feedback import feedback_type
from serving.requests.request_ids import RequestId

Schema = dict[str, Any]

REF = "#/components/schemas/{name}"
DATA = ("enum", "const", "examples", "default", "required", VALUES)  # keys of a schema that hold values, and no schemas


def ref(name: str) -> Schema:
    """A reference to one of the document's schemas."""
    return {"$ref": REF.format(name=name)}


def _as(schema: Schema) -> Any:
    """The type of what has this schema, where msgspec has none."""
    return Annotated[Any, Meta(extra_json_schema=schema)]


def _many(items: Any, description: str | None = None) -> Any:
    """The type of as many as a batch may have."""
    return Annotated[list[items], Meta(min_length=1, max_length=LARGEST_BATCH, description=description)]


def plain(schema: Any) -> Any:
    """What msgspec says of a type, in the words of JSON Schema that people and their tools read best."""
    if not isinstance(schema, dict):
        return [plain(one) for one in schema] if isinstance(schema, list) else schema
    made: Schema = {}
    for key, part in schema.items():
        if key == "properties":  # whose names may be any
            part = {name: plain(one) for name, one in part.items()}
        made[key] = part if key == "properties" or key in DATA else plain(part)
    if VALUES in made:
        made["enum"] = made.pop(VALUES)
        made.pop("anyOf", None)
    match made.get("anyOf"):
        case [{"type": str(kind)} as one, {"type": "null"}] if kind != "array":
            made |= {**one, "type": [kind, "null"]}
            del made["anyOf"]
    if made.get("multipleOf") == 1:
        del made["multipleOf"]
        made["type"] = "integer"
    if "pattern" in made:  # Python's ends of a text, as JavaScript has them
        made["pattern"] = made["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    return made


REQUEST_ID = plain(msgspec.json.schema(RequestId))


def components(
    contract: Contract, feedback: bool, experiment: bool, explains: bool, rules: Sequence[str] = ()
) -> dict[str, Schema]:
    """The schemas that the paths refer to, by name.

    Those of feedback are among them only where it is taken, of an experiment where one runs, of explanations where there are any.
    `rules` are the names of the rules that may decide.
    """
    listed, named = row_types(contract)
    row = _as(ref("Row"))
    types = [
        listed,
        named,
        _record(contract),
        request_type("Request", row, explains),
        request_type("Batch", _many(row)),
    ]
    types += [*_predictions(contract, explains, rules), *answers.ABOUT.values(), answers.Problem]
    if feedback:
        types += [feedback_type(contract, "Feedback", 0), feedback_type(contract, "FeedbackKept")]
    (in_order, *_), made = msgspec.json.schema_components(types, ref_template=REF)
    made = {name: plain(schema) for name, schema in made.items()}
    if not experiment:
        del made["ExperimentInfo"]
        for name in ("ModelInfo", "Status"):
            del made[name]["properties"]["experiment"]
    if contract.threshold is None:
        del made["ModelInfo"]["properties"]["threshold"]
    if contract.rules is None:
        del made["ModelInfo"]["properties"]["rules"], made["RuleNames"]
    for name in ("Input", "Observed", "ModelInfo", "Status"):
        made[name]["required"] = list(made[name]["properties"])  # what has a default is written all the same
    for name in {"Feedback", "FeedbackKept"} & made.keys():
        made[name]["anyOf"] = [{"required": ["outcome"]}, {"required": ["value"]}]
    made["List"] = {"description": "The features in the order of the contract.", **plain(in_order)}
    made["Row"] = {"anyOf": [ref("Features"), ref("List")]}
    made["Invocation"] = _invocation(contract, made["Record"])
    return made


def _predictions(contract: Contract, explains: bool, rules: Sequence[str]) -> list[type]:
    """The types of the answers to rows, which the fast path writes piece by piece."""
    words = f"The predicted {contract.target}."
    place: Any = Annotated[int, Meta(ge=0, le=len(contract.classes) - 1, description="The label's place in classes.")]
    share = {"type": "number", "description": "From 0 to 1, but for rounding, as all of them add up to 1."}
    if contract.task == "regression":
        one: dict[str, Any] = {"value": Annotated[float, Meta(description=words)]}
    else:
        one = {
            "label": Annotated[str, Meta(description=words, extra_json_schema={"enum": contract.classes})],
            "class_id": place,
            "probabilities": _as(_object(dict.fromkeys(contract.classes, share), additionalProperties=False)),
        }
    if rules:
        words = "The rule that decided, before the model or after it; only where one did."
        about = Meta(description=words, extra_json_schema={"enum": list(rules)})
        one["rule"] = Annotated[str, about] | UnsetType
    rest: dict[str, Any] = {
        "model_version": Annotated[str, Meta(description="The version of the model that answered.")],
        "request_id": Annotated[RequestId, Meta(description="That of the body, else of X-Request-ID, else a new one.")],
        "latency_ms": Annotated[float, Meta(ge=0, description="Milliseconds that the answer took.")],
    }
    if Unseen(contract).columns:
        words = "What the model has answered without knowing it; only where there is any, and the first ten."
        about = Meta(min_length=1, max_length=MANY, description=words)
        rest["warnings"] = Annotated[list[answers.UnseenText], about] | UnsetType
    many = _many(_struct("Answer", one), description="One for each row, in order.")
    numbers = _many(place if contract.classes else float)
    explanation: dict[str, Any] = {"explanation": _explanation(contract) | UnsetType} if explains else {}
    return [
        _struct("Prediction", one | rest | explanation),
        _struct("Predictions", {"predictions": many} | rest),
        _struct("Invoked", {"predictions": numbers}),
    ]


def _explanation(contract: Contract) -> Any:
    """The type of an explanation."""
    words = "What is explained: the probability of this class, or the target."
    names = {"enum": contract.classes or [contract.target]}
    share = {"type": "number", "description": "What the value of this feature adds."}
    about = {
        "of": Annotated[str, Meta(description=words, extra_json_schema=names)],
        "base": Annotated[float, Meta(description="The mean answer to the background rows.")],
        "answer": Annotated[float, Meta(description="What was answered: base and the contributions add up to it.")],
        "contributions": _as(_object(dict.fromkeys(contract.names, share), additionalProperties=False)),
        "rows": Annotated[int, Meta(ge=1, description="Background rows that the row was compared with.")],
        "evaluations": Annotated[int, Meta(ge=0, description="Mixtures of rows that the model was asked.")],
        "exact": Annotated[bool, Meta(description="Whether all mixtures were asked; else some, drawn at random.")],
        "error": Annotated[float, Meta(ge=0, description="The largest standard error of a contribution; 0 if exact.")],
        "latency_ms": Annotated[float, Meta(ge=0, description="Milliseconds that the explanation took.")],
    }
    return _struct("Explanation", about)


def _struct(name: str, fields: dict[str, Any]) -> type[msgspec.Struct]:
    """The type of an answer with these fields and no other."""
    may_lack = ("rule", "warnings", "explanation")
    given = [(field, kind, UNSET if field in may_lack else msgspec.NODEFAULT) for field, kind in fields.items()]
    return msgspec.defstruct(name, given, forbid_unknown_fields=True, kw_only=True)


def _record(contract: Contract) -> type[msgspec.Struct]:
    """The type of a row by name in MLflow's protocol: unknown names are left out, as is what may be null."""
    fields: list[tuple[str, Any, Any]] = []
    for number, column in enumerate(contract.inputs):
        field = msgspec.field(name=column.name, default=None if column.nullable else msgspec.NODEFAULT)
        fields.append((f"f{number}", column.kind(contract.largest), field))
    return msgspec.defstruct("Record", fields, kw_only=True)


def _invocation(contract: Contract, record: Schema) -> Schema:
    """The body of /invocations: one of MLflow's four forms."""
    one = record["properties"]
    rows = _batch({"anyOf": [ref("Record"), ref("List"), *(one.values() if len(one) == 1 else ())]})
    columns = {
        **record,
        "description": "Each name has the same number of values, unknown ones, too; a value alone is a list of one.",
        "properties": {name: {"anyOf": [schema, _batch(schema)]} for name, schema in one.items()},
        "additionalProperties": {"minItems": 1, "maxItems": LARGEST_BATCH},
        "minProperties": 1,
    }
    words = "They may come in another order, and unknown ones among them."
    names = {"const": list(contract.names), "description": words}
    in_order = {**_batch(ref("List")), "description": "Rows in the order of columns."}
    bare = _object({"columns": {"type": "null"}, "data": _batch(ref("Row"))}, ["data"])
    either = {"anyOf": [rows, columns]}
    forms = {
        "dataframe_split": {"anyOf": [_object({"columns": names, "data": in_order}), bare]},
        "dataframe_records": rows,
        "instances": either,
        "inputs": either,
    }
    params = {"description": "Taken and not used."}
    return {
        "oneOf": [
            _object({form: schema, "params": params}, [form], additionalProperties=False)
            for form, schema in forms.items()
        ]
    }


def _batch(items: Schema) -> Schema:
    """The schema of as many as a batch may have."""
    return {"type": "array", "items": items, "minItems": 1, "maxItems": LARGEST_BATCH}


def _object(properties: Schema, required: list[str] | None = None, **more: Any) -> Schema:
    """The schema of an object; all properties are required, unless `required` names some."""
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed, **more}
