"use strict";

// Swagger UI over the document of this service. No validator: it would send the document to somebody else.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  defaultModelsExpandDepth: 2,
  tryItOutEnabled: true,
  responseInterceptor: (response) => {
    if (response.url.endsWith("/openapi.json")) {
      response.text = JSON.stringify(parseDocument(response.text));
    }
    return response;
  },
  onComplete: () => {
    const info = window.ui.specSelectors.info();
    document.title = `${info.get("title")} ${info.get("version")}: API documentation`;
  },
});
