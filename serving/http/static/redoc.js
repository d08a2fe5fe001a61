"use strict";

// ReDoc over the document of this service.
const showReference = async () => {
  const place = document.getElementById("reference");
  try {
    const answer = await fetch("openapi.json");
    if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
    const options = { disableSearch: true, schemasExpansionLevel: 2 };
    Redoc.init(parseDocument(await answer.text()), options, place);
  } catch (error) {
    place.textContent = `The document cannot be read: ${error.message}`;
  }
};
showReference();
