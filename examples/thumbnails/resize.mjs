// Scaling by area: each new pixel is the mean of those that it covers, weighted by how much of them it covers.

/**
 * Makes a picture smaller, to fit into size × size. `picture` and what comes back are {width, height, data}, with four
 * bytes a pixel. After each few rows it calls `pause` with the part that is done (0 to 1) and waits for it.
 */
export async function resize(picture, size, pause) {
  const scale = Math.min(1, size / Math.max(picture.width, picture.height));
  const width = Math.max(1, Math.round(picture.width * scale));
  const height = Math.max(1, Math.round(picture.height * scale));
  const data = Buffer.alloc(width * height * 4);
  const columns = covered(picture.width, width);
  const rows = covered(picture.height, height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) mean(picture, columns[x], rows[y], data, (y * width + x) * 4);
    if (y % 8 === 7) await pause((y + 1) / height);
  }
  return { width, height, data };
}

/** For each of `to` pixels of a line: the first of the `from` that it covers, and how much of each. */
function covered(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const start = (i * from) / to;
    const end = ((i + 1) * from) / to;
    const first = Math.floor(start);
    const parts = [];
    for (let at = first; at < Math.min(from, Math.ceil(end)); at += 1) {
      parts.push(Math.min(at + 1, end) - Math.max(at, start));
    }
    return { first, parts };
  });
}

function mean(picture, column, row, data, target) {
  let [red, green, blue, alpha, area] = [0, 0, 0, 0, 0];
  for (let j = 0; j < row.parts.length; j += 1) {
    for (let i = 0; i < column.parts.length; i += 1) {
      const part = row.parts[j] * column.parts[i];
      const source = ((row.first + j) * picture.width + column.first + i) * 4;
      const opaque = part * picture.data[source + 3]; // What cannot be seen lends no colour.
      red += opaque * picture.data[source];
      green += opaque * picture.data[source + 1];
      blue += opaque * picture.data[source + 2];
      alpha += opaque;
      area += part;
    }
  }
  data[target] = alpha ? Math.round(red / alpha) : 0;
  data[target + 1] = alpha ? Math.round(green / alpha) : 0;
  data[target + 2] = alpha ? Math.round(blue / alpha) : 0;
  data[target + 3] = Math.round(alpha / area);
}
