// Takes a job from the server, runs its model on its image, sends what came of it, and loads anew for the next job.

const log = [];
for (const level of ['debug', 'log', 'info', 'warn', 'error']) {
  console[level] = (...parts) => log.push(parts.join(' '));
}

const bytes = async (name) => {
  const answer = await fetch(`/files/${name}`);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
};

// LiteRT.js: the accelerator is webgpu or wasm.
async function litert(job) {
  const {loadLiteRt, loadAndCompile, Tensor} = await import('@litertjs/core');
  await loadLiteRt('/modules/@litertjs/core/wasm/', {jspi: job.jspi});
  const model = await loadAndCompile(await bytes(job.model), {accelerator: job.accelerator});
  const [{dtype, shape}] = model.getInputDetails();
  const pixels = await bytes(job.image);
  const milliseconds = [];
  let descriptor;
  for (let run = 0; run < job.runs; run++) {
    const input = new Tensor(dtype === 'float32' ? new Float32Array(pixels) : pixels, [...shape]);
    const start = performance.now();
    const [output] = await model.run(input);
    descriptor = Array.from(await output.data());
    milliseconds.push(performance.now() - start);
    input.delete();
    output.delete();
  }
  return {descriptor, milliseconds, fullyAccelerated: model.isFullyAccelerated};
}

// MediaPipe's ImageEmbedder: the accelerator is GPU or CPU, its delegates.
async function mediapipe(job) {
  const {FilesetResolver, ImageEmbedder} = await import('@mediapipe/tasks-vision');
  const embedder = await ImageEmbedder.createFromOptions(
      await FilesetResolver.forVisionTasks('/modules/@mediapipe/tasks-vision/wasm'), {
        baseOptions: {modelAssetBuffer: await bytes(job.model), delegate: job.accelerator},
        canvas: document.createElement('canvas'),
      });
  const [height, width] = job.size;
  const rgb = await bytes(job.image);
  const rgba = new Uint8ClampedArray(4 * height * width).fill(255);
  for (let i = 0; i < height * width; i++) rgba.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  const milliseconds = [];
  let descriptor;
  for (let run = 0; run < job.runs; run++) {
    const start = performance.now();
    const {embeddings: [embedding]} = embedder.embed(new ImageData(rgba, width, height));
    milliseconds.push(performance.now() - start);
    descriptor = Array.from(embedding.floatEmbedding);
  }
  return {descriptor, milliseconds};
}

const job = await (await fetch('/job')).json();
if (job) {
  let result;
  try {
    result = await {litert, mediapipe}[job.client](job);
  } catch (error) {
    result = {error: String(error?.message ?? error)};
  }
  await fetch('/result', {method: 'POST', body: JSON.stringify({...result, log})});
  location.reload();
}
