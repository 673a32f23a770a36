// The protocol's TypeScript client as it is: lists, calls, hears progress, answers for its user, gives a call up.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const told = { asked: [], progress: [] };
const client = new Client({ name: "interop", version: "1.0.0" }, { capabilities: { elicitation: { form: {} } } });
client.setRequestHandler("elicitation/create", async (request) => {
  told.asked.push(request.params.message);
  return { action: "accept", content: { consent: "yes, for ten minutes" } };
});
const headers = { authorization: `Bearer ${process.env.HEARTHGATE_KEY}` };
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2]), { requestInit: { headers } }));
told.tools = (await client.listTools()).tools.map((tool) => tool.name);
told.text = (await client.callTool({ name: "test_simple_text", arguments: {} })).content[0].text;
const onprogress = (progress) => told.progress.push(progress.progress);
await client.callTool({ name: "test_tool_with_progress", arguments: {} }, { onprogress });
told.consented = (await client.callTool({ name: "test_streaming_elicitation", arguments: {} })).isError !== true;
const given = new AbortController();
const waiting = client.callTool({ name: "test_wait", arguments: {} }, { signal: given.signal });
setTimeout(() => given.abort(), 300);
told.aborted = await waiting.then(() => false, () => true);
console.log(JSON.stringify(told));
// It tells of what it gave up a moment later, and by itself does not wait until that is said.
setTimeout(() => client.close(), 1000);
