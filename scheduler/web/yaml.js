// A job as YAML, for job files: what a person would write, quoted only where it must be.

/** Words that YAML takes for something else than text (also in its older version), and what begins like a number. */
const TAKEN = /^(?:|true|false|yes|no|on|off|null|~|y|n|[-+.]?[0-9].*|\.(?:inf|nan))$/i;
const PLAIN = /^[A-Za-z_./][\w ./@{}()+-]*$/;

function scalar(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  // JSON's texts are YAML's.
  return PLAIN.test(value) && !TAKEN.test(value) && !value.endsWith(" ") && !/[{}]/.test(value[0]) ? value : JSON.stringify(value);
}

const isPlain = (value) => value === null || typeof value !== "object" || Object.keys(value).length === 0;

/** Lines without an end; keys are as they stand, since those of jobs are names. */
function lines(value, indent) {
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      if (isPlain(item)) return [`${indent}- ${text(item)}`];
      const inner = lines(item, `${indent}  `);
      return [`${indent}- ${inner[0].slice(indent.length + 2)}`, ...inner.slice(1)];
    });
  }
  return Object.entries(value).flatMap(([key, item]) => (isPlain(item) ? [`${indent}${scalar(key)}: ${text(item)}`] : [`${indent}${scalar(key)}:`, ...lines(item, `${indent}  `)]));
}

function text(value) {
  if (value !== null && typeof value === "object") return Array.isArray(value) ? "[]" : "{}";
  return scalar(value);
}

export const yaml = (value) => `${(isPlain(value) ? [text(value)] : lines(value, "")).join("\n")}\n`;
