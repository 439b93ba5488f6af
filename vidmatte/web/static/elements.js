// @ts-check
// Small makers of elements.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {(Node | string)[]} children
 */
export function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

/**
 * @param {string} text
 * @param {string} label
 * @param {() => void} onClick
 */
export function quietButton(text, label, onClick) {
  const button = element("button", { type: "button", className: "quiet", textContent: text, title: label });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", onClick);
  return button;
}
