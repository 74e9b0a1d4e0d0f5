"use strict";
// The endpoints as the server describes them.
fetch("/openapi.json").then((response) => response.json()).then((document_) => {
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const heading = document.createElement("h2");
      heading.textContent = `${method.toUpperCase()} ${path}`;
      const text = document.createElement("p");
      text.textContent = operation.description ?? operation.summary;
      const body = operation.requestBody?.content["application/json"]?.schema.$ref;
      document.getElementById("paths").append(heading, text);
      if (!body) continue;
      const schema = document_.components.schemas[body.split("/").at(-1)];
      const list = document.createElement("ul");
      for (const [name, field] of Object.entries(schema.properties)) {
        const item = document.createElement("li");
        item.textContent = `${name}: ${field.description ?? field.type ?? ""}`;
        list.append(item);
      }
      document.getElementById("paths").append(list);
    }
  }
});
