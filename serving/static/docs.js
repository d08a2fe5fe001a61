"use strict";

// Swagger UI over the document of this service. No validator: it would send the document to somebody else.
// The bounds of a model's own type of number would hide those that mean something.
const BOUNDS = ["minimum", "maximum"];
const isShown = (name, value) => !(BOUNDS.includes(name) && typeof value === "number" && Math.abs(value) > 1e38);

window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  defaultModelsExpandDepth: 2,
  tryItOutEnabled: true,
  responseInterceptor: (response) => {
    if (response.url.endsWith("/openapi.json")) {
      const shown = JSON.parse(response.text, (name, value) => (isShown(name, value) ? value : undefined));
      response.text = JSON.stringify(shown);
    }
    return response;
  },
  onComplete: () => {
    const info = window.ui.specSelectors.info();
    document.title = `${info.get("title")} ${info.get("version")}: API documentation`;
  },
});
