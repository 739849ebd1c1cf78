/** Samples of a recording, as the browser decodes it. */

export const LONGEST = 1800; // seconds that are drawn; the samples of more fill the memory

/**
 * @param {Blob} file
 * @param {number} rate Hz to resample to
 * @returns {Promise<?{channels: Float32Array[], rate: number, seconds: number}>} null where the
 *   browser cannot decode it
 */
export async function decode(file, rate) {
  try {
    const context = new OfflineAudioContext(1, 1, Math.max(8000, Math.min(rate, 96000)));
    const buffer = await context.decodeAudioData(await file.arrayBuffer());
    const channels = Array.from({ length: buffer.numberOfChannels }, (_, i) =>
      buffer.getChannelData(i).slice(),
    );
    return { channels, rate: buffer.sampleRate, seconds: buffer.duration };
  } catch {
    return null;
  }
}
