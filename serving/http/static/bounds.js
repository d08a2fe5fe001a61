"use strict";

// The bounds of a model's own type of number would hide those that mean something: the pages show the document without them.
const BOUNDS = ["minimum", "maximum"];
const isShown = (name, value) => !(BOUNDS.includes(name) && typeof value === "number" && Math.abs(value) > 1e38);
const parseDocument = (text) => JSON.parse(text, (name, value) => (isShown(name, value) ? value : undefined));
