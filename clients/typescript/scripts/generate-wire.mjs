// Writes src/wire.ts, the types of what goes over HTTP, from the server's OpenAPI document. `--check` writes nothing and
// fails where the two differ in more than their comments.
//
// The document keeps to a small part of JSON Schema (objects, arrays, enums, references, oneOf), which is all that is
// known here. What is not known fails, so that nothing becomes `unknown` by accident.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const target = fileURLToPath(new URL('../src/wire.ts', import.meta.url));
const source = fileURLToPath(new URL('../../../src/protocols/http/openapi.json', import.meta.url));
const known = new Set(
  (
    'type properties required additionalProperties items oneOf enum const $ref description title default format pattern ' +
    'minimum maximum minLength maxLength minItems maxItems minProperties maxProperties propertyNames examples example contentEncoding uniqueItems'
  ).split(' '),
);

const comment = (schema, indent) => {
  const lines = [];
  if (schema.description) lines.push(schema.description);
  if ('default' in schema) lines.push(`Default: ${JSON.stringify(schema.default)}.`);
  return lines.length ? `${indent}/** ${lines.join(' ').replaceAll('*/', '* /')} */\n` : '';
};

const literal = (value) => `'${String(value).replaceAll("'", "\\'")}'`;

function typeOf(schema, indent) {
  for (const key of Object.keys(schema)) {
    // That one of some properties must be there is not for a type to say.
    const isChoice = key === 'anyOf' && schema.anyOf.every((each) => Object.keys(each).join() === 'required');
    if (!known.has(key) && !isChoice) throw new Error(`the generator does not know the schema keyword ${key}`);
  }
  if (schema.$ref) return schema.$ref.replace('#/components/schemas/', '');
  if (schema.oneOf) return schema.oneOf.map((one) => typeOf(one, indent)).join(' | ');
  if ('const' in schema) return literal(schema.const);
  if (schema.enum) return schema.enum.map(literal).join(' | ');
  if (schema.type === undefined) return 'unknown'; // Any JSON.
  const types = [schema.type].flat();
  return types.map((type) => one(type, schema, indent)).join(' | ');
}

function one(type, schema, indent) {
  switch (type) {
    case 'string':
    case 'boolean':
    case 'null':
      return type;
    case 'integer':
    case 'number':
      return 'number';
    case 'array': {
      const items = typeOf(schema.items, indent);
      return / /.test(items) ? `Array<${items}>` : `${items}[]`;
    }
    case 'object':
      return objectOf(schema, indent);
    default:
      throw new Error(`the generator does not know the type ${type}`);
  }
}

function objectOf(schema, indent) {
  const inner = `${indent}  `;
  const properties = Object.entries(schema.properties ?? {});
  if (properties.length === 0) {
    const values =
      typeof schema.additionalProperties === 'object' ? typeOf(schema.additionalProperties, inner) : 'unknown';
    return `{ [name: string]: ${values} }`;
  }
  const required = new Set(schema.required ?? []);
  const lines = properties.map(
    ([name, property]) =>
      `${comment(property, inner)}${inner}${name}${required.has(name) ? '' : '?'}: ${typeOf(property, inner)};`,
  );
  return `{\n${lines.join('\n')}\n${indent}}`;
}

export function generate(document) {
  const parts = Object.entries(document.components.schemas).map(
    ([name, schema]) => `${comment(schema, '')}export type ${name} = ${typeOf(schema, '')};\n`,
  );
  return '// Made from the OpenAPI document of the server by `npm run generate`: do not edit.\n\n' + parts.join('\n');
}

/** What the compiler sees of it: rewording a description is no change of a type. */
export const withoutComments = (text) =>
  text
    .replaceAll(/\/\*\*.*?\*\//gs, '')
    .replaceAll(/^\s*\/\/.*$/gm, '')
    .replaceAll(/\s+/g, ' ')
    .trim();

export function check() {
  const wanted = generate(JSON.parse(readFileSync(source, 'utf8')));
  return withoutComments(wanted) === withoutComments(readFileSync(target, 'utf8'));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === '--check') {
    if (!check()) {
      console.error('src/wire.ts is not what the OpenAPI document says: run `npm run generate` in clients/typescript');
      process.exitCode = 1;
    }
  } else {
    writeFileSync(target, generate(JSON.parse(readFileSync(source, 'utf8'))));
  }
}
