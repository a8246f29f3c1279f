// Finds the points of pictures that the visitor chooses, by the network beside this page.

import * as ort from './runtime/ort.wasm.min.mjs';

const MAX_BYTES = 64 * 2 ** 20;
const MIN_SIDE = 8; // px
const MAX_PIXELS = 24e6; // the runtime holds a picture as float32, and has 4 GB
const LEFT = '#d62728', RIGHT = '#1f6fd6', MIDDLE = '#1a9850';

const element = (id) => document.getElementById(id);
const tell = (text) => { element('status').textContent = text; };
const complain = (text) => { element('error').textContent = text; };

let model, session;
let waiting = Promise.resolve(); // pictures are looked at one after the other

async function fetched(path, onProgress) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} cannot be loaded (${answer.status})`);
  const total = Number(answer.headers.get('Content-Length')) || 0;
  const parts = [];
  let received = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    onProgress(total ? received / total : null);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function start() {
  if (location.protocol === 'file:') {
    throw new Error('A browser runs this page from a server only. In its folder: python3 -m http.server');
  }
  const answer = await fetch('model.json');
  if (!answer.ok) throw new Error(`model.json cannot be loaded (${answer.status})`);
  model = await answer.json();
  ort.env.wasm.wasmPaths = new URL('./runtime/', location.href).href;
  ort.env.wasm.numThreads = 1; // more need headers that not every server sends
  const bar = element('progress');
  const file = await fetched(model.files[0], (share) => {
    if (share === null) bar.removeAttribute('value'); else bar.value = share;
  });
  session = await ort.InferenceSession.create(file, { executionProviders: ['wasm'] });
  for (const name of Object.keys(model.categories)) element('category').add(new Option(name, name));
  element('loading').hidden = true;
  element('controls').hidden = false;
  element('camera').hidden = !navigator.mediaDevices?.getUserMedia;
  tell('Ready.');
}

// The pixels as Python reads them: upright, and white behind what is transparent.
async function decoded(blob, name) {
  if (blob.size === 0) throw new Error(`${name}: the file is empty`);
  if (blob.size > MAX_BYTES) throw new Error(`${name}: ${blob.size} bytes; at most ${MAX_BYTES} are read`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: 'from-image' });
  } catch {
    throw new Error(`${name}: not a picture that this browser can read, or it is damaged`);
  }
  const { width, height } = bitmap;
  if (Math.min(width, height) < MIN_SIDE || width * height > MAX_PIXELS) {
    bitmap.close();
    throw new Error(`${name}: ${width}x${height} px; a side must be at least ${MIN_SIDE}, the area at most ${MAX_PIXELS}`);
  }
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas;
}

function tensorOf(canvas) {
  const { width, height } = canvas;
  const rgba = canvas.getContext('2d').getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; i < rgba.length; i += 4) {
    rgb[j++] = rgba[i];
    rgb[j++] = rgba[i + 1];
    rgb[j++] = rgba[i + 2];
  }
  return new ort.Tensor('uint8', rgb, [height, width, 3]);
}

async function predict(canvas, category) {
  const number = Object.keys(model.categories).indexOf(category);
  const outputs = await session.run({
    image: tensorOf(canvas),
    category: new ort.Tensor('int32', Int32Array.of(number), []),
  });
  const points = {};
  for (const name of model.categories[category]) {
    const k = model.keypoints.indexOf(name);
    const [x, y] = outputs.keypoints.data.slice(2 * k, 2 * k + 2);
    points[name] = [x, y, outputs.scores.data[k]];
  }
  return points;
}

// How far off each point may be, px, by the formula of utility/predict/exported/radii.py.
function radiiOf(points, category) {
  if (!model.radii) return null;
  const { low, high, weights, sizes } = model.radii;
  const values = Object.values(points);
  const sides = [0, 1].map((i) => values.map((value) => value[i]));
  const extent = Math.max(1, ...sides.map((side) => Math.max(...side) - Math.min(...side)));
  return Object.fromEntries(Object.entries(points).map(([name, [, , score]]) => {
    const peak = Math.min(Math.max(score, 1e-3), 1.5);
    const sum = [peak, Math.log(peak), Math.log(extent)].reduce((total, feature, i) => {
      const scaled = (Math.min(Math.max(feature, low[i]), high[i]) - low[i]) / (high[i] - low[i] || 1);
      return total + weights[i] * scaled;
    }, 0);
    const size = sizes[category][name];
    return [name, size === null ? null : size * Math.exp(sum)];
  }));
}

const colorOf = (name) => (name.includes('left') ? LEFT : name.includes('right') ? RIGHT : MIDDLE);

function draw(canvas, picture, points, radii, withNames) {
  const context = canvas.getContext('2d');
  const unit = Math.max(picture.width, picture.height) / 100;
  canvas.width = picture.width;
  canvas.height = picture.height;
  context.drawImage(picture, 0, 0);
  context.font = `${2.4 * unit}px system-ui, sans-serif`;
  context.textBaseline = 'middle';
  for (const [name, [x, y]] of Object.entries(points)) {
    context.beginPath();
    context.arc(x, y, unit, 0, 2 * Math.PI);
    context.fillStyle = colorOf(name);
    context.fill();
    context.lineWidth = unit / 4;
    context.strokeStyle = '#fff';
    context.stroke();
    if (radii?.[name]) {
      context.beginPath();
      context.arc(x, y, radii[name], 0, 2 * Math.PI);
      context.strokeStyle = colorOf(name);
      context.stroke();
    }
    if (!withNames) continue;
    const label = name.replaceAll('_', ' ');
    const right = x + 1.6 * unit + context.measureText(label).width > picture.width;
    context.textAlign = right ? 'right' : 'left';
    context.lineWidth = unit / 1.5;
    context.strokeStyle = '#fff';
    context.fillStyle = '#111';
    const place = [x + (right ? -1.6 : 1.6) * unit, y];
    context.strokeText(label, ...place);
    context.fillText(label, ...place);
  }
}

function show(name, category, picture, points) {
  const section = document.importNode(element('result').content, true).firstElementChild;
  const canvas = section.querySelector('canvas');
  const [json, png] = [section.querySelector('.json'), section.querySelector('.png')];
  const stem = name.replace(/\.[^.]*$/, '');
  section.querySelector('h2').textContent = `${name}: ${category}`;
  canvas.setAttribute('aria-label', `${name} with ${Object.keys(points).length} points of a ${category}; the table has their places`);
  const radii = radiiOf(points, category);
  if (radii) {
    const head = document.createElement('th');
    head.scope = 'col';
    head.textContent = `radius of ${100 * model.radii.level} %, px`;
    section.querySelector('thead tr').append(head);
  }
  for (const [point, values] of Object.entries(points)) {
    const row = section.querySelector('tbody').insertRow();
    row.insertCell().textContent = point;
    [1, 1, 2].forEach((digits, i) => { row.insertCell().textContent = values[i].toFixed(digits); });
    if (radii) row.insertCell().textContent = radii[point]?.toFixed(1) ?? '';
  }
  const result = { image: name, category, width: picture.width, height: picture.height, points };
  if (radii) result.radii = radii;
  json.href = URL.createObjectURL(new Blob([JSON.stringify(result, null, 2)], { type: 'application/json' }));
  json.download = `${stem}.json`;
  const redraw = () => {
    draw(canvas, picture, points, radii, element('names').checked);
    canvas.toBlob((blob) => {
      URL.revokeObjectURL(png.href);
      png.href = URL.createObjectURL(blob);
    });
  };
  png.download = `${stem}_keypoints.png`;
  element('names').addEventListener('change', redraw);
  section.querySelector('.remove').addEventListener('click', () => {
    element('names').removeEventListener('change', redraw);
    [json, png].forEach((link) => URL.revokeObjectURL(link.href));
    section.remove();
    element('files').focus();
  });
  element('results').prepend(section); // first: a canvas outside of the page has no fonts
  redraw();
}

function look(blob, name) {
  const category = element('category').value;
  waiting = waiting.then(async () => {
    tell(`Looking at ${name} ...`);
    try {
      const picture = await decoded(blob, name);
      const begin = performance.now();
      const points = await predict(picture, category);
      const seconds = ((performance.now() - begin) / 1000).toFixed(2);
      show(name, category, picture, points);
      tell(`${name}: ${Object.keys(points).length} points in ${seconds} s.`);
    } catch (error) {
      tell('');
      complain(error.message);
    }
  });
}

function lookAt(files) {
  complain('');
  for (const file of files) look(file, file.name);
}

function close() {
  for (const track of element('video').srcObject?.getTracks() ?? []) track.stop();
  element('video').srcObject = null;
  element('viewfinder').hidden = true;
  element('camera').focus();
}

element('controls').addEventListener('submit', (event) => event.preventDefault());
element('files').addEventListener('change', (event) => {
  lookAt(event.target.files);
  event.target.value = ''; // the same file can be chosen again
});
for (const kind of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    element('drop').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop' && session) lookAt(event.dataTransfer.files);
  });
}
element('camera').addEventListener('click', async () => {
  complain('');
  try {
    element('video').srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
    element('viewfinder').hidden = false;
    await element('video').play();
    element('shoot').focus();
  } catch (error) {
    complain(`The camera cannot be used: ${error.message}`);
  }
});
element('shoot').addEventListener('click', () => {
  const video = element('video');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext('2d').drawImage(video, 0, 0);
  canvas.toBlob((blob) => lookAt([new File([blob], 'camera.png')]));
  close();
});
element('stop').addEventListener('click', close);

start().catch((error) => {
  element('loading').hidden = true;
  complain(error.message);
});
