// All calls of the official TypeScript SDK that the gateway serves. ANTHROPIC_BASE_URL says where.
import assert from 'node:assert';
import Anthropic from '@anthropic-ai/sdk';

const client = new Anthropic({ maxRetries: 2 });
const params = (text) => ({
  model: 'claude-opus-4-6',
  max_tokens: 20,
  messages: [{ role: 'user', content: text }],
});
const request = (number) => ({ custom_id: `c${number}`, params: params(`prompt ${number}`) });
const batches = client.messages.batches;

const message = await client.messages.create(params('hello'));
assert.equal(message.content[0].type, 'text');
let text = '';
const stream = client.messages.stream(params('hello')).on('text', (part) => (text += part));
const streamed = await stream.finalMessage();
assert.equal(text, streamed.content[0].text);
assert.equal(text, message.content[0].text);

const made = await batches.create({ requests: Array.from({ length: 10 }, (_, n) => request(n)) });
let polled = made;
while (polled.processing_status !== 'ended') {
  await new Promise((done) => setTimeout(done, 50));
  polled = await batches.retrieve(made.id);
}
assert.equal(polled.request_counts.succeeded, 10);
const ids = [];
for await (const line of await batches.results(made.id)) {
  assert.equal(line.result.type, 'succeeded');
  ids.push(line.custom_id);
}
assert.deepEqual(ids, Array.from({ length: 10 }, (_, n) => `c${n}`));
const others = [];
for (let n = 0; n < 3; n++) others.unshift((await batches.create({ requests: [request(n)] })).id);
const listed = [];
for await (const batch of batches.list({ limit: 2 })) listed.push(batch.id);
assert.deepEqual(listed, [...others, made.id]);
const cancelled = await batches.cancel(others[0]);
assert.ok(['canceling', 'ended'].includes(cancelled.processing_status));
assert.equal((await batches.delete(made.id)).type, 'message_batch_deleted');
await assert.rejects(batches.retrieve(made.id), Anthropic.NotFoundError);
console.log('passed');
