// What the scripts of all pages use.

/** An element with properties, or attributes where the name has a dash, and children. */
function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

const three = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

/** The image of a row with a caption and an id, or the reason why there is none. */
function photo({ image, has_image, caption, id }, reason = has_image ? "the image cannot be shown" : "no image") {
  return image
    ? element("img", { src: image, alt: caption || `row ${id}`, decoding: "async" })
    : element("div", { className: "no-image" }, reason);
}

/** Let the browser save a text as a file. */
function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000); // when the browser has begun to read it
}
