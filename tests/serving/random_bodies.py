"""Bodies that a service may be sent by mistake, by malice or by chance."""

import json

ODD = ["", "text", "\ud800", "\x00", "9" * 400, "{}", "null"]
NUMBERS = [0, 1, -1, 3.5, 1e308, -1e308, 5e-324, 2**63, 10**400, float("nan"), float("inf"), -0.0]


def _value(rng, depth=0):
    """Any JSON value, odd ones first."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(ODD)
    if kind == 3:
        return rng.choice([True, False, None])
    if kind == 4:
        return rng.uniform(-200, 200)
    if kind < 7:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {rng.choice(ODD): _value(rng, depth + 1) for _ in range(rng.randrange(4))}


def _near_miss(rng, example):
    """A right row with one thing changed, which reaches deeper than noise."""
    row = dict(example)
    name = rng.choice(list(row))
    change = rng.randrange(4)
    if change == 0:
        row[name] = _value(rng)
    elif change == 1:
        del row[name]
    elif change == 2:
        row[rng.choice(ODD)] = _value(rng)
    return row if rng.random() < 0.5 else list(row.values())


def _body(rng, example):
    roll = rng.random()
    if roll < 0.6:
        row = _near_miss(rng, example)
        return {"features": row if rng.random() < 0.5 else [row, dict(example)]}
    if roll < 0.8:
        return {"features": _value(rng), **({"request_id": _value(rng)} if rng.random() < 0.3 else {})}
    return _value(rng)


def random_body(rng, example):
    """A body as bytes, right or nearly so: mostly JSON, sometimes with a damaged byte."""
    raw = bytearray(json.dumps(_body(rng, example)).encode())
    if raw and rng.random() < 0.2:
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(raw)
