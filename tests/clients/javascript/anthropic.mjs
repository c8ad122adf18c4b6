// Anthropic's client.
import Anthropic from "@anthropic-ai/sdk";
import { ABOUT, BOTH, CITY, DEGREES, PNG, said, WEATHER } from "./conversation.mjs";
import { failureOf, KEY } from "./serve.mjs";

function message({ content, stop_reason, usage }) {
  const cached = usage.cache_read_input_tokens ?? 0;
  const join = (type, field) => content.flatMap((block) => (block.type === type ? [block[field]] : [])).join("");
  return {
    text: join("text", "text"),
    thought: join("thinking", "thinking"),
    finish: stop_reason,
    usage: { prompt: usage.input_tokens + cached, answer: usage.output_tokens, cached },
    calls: content.filter(({ type }) => type === "tool_use").map(({ id, name, input }) => [id, name, input]),
  };
}

async function messageTools(ask, more = {}) {
  const asked = { tools: [{ ...ABOUT, input_schema: CITY }], ...more };
  const first = await ask({ ...said(BOTH), ...asked });
  const content = first.content
    .filter(({ type }) => type === "tool_use")
    .map(({ id, input }) => ({ type: "tool_result", tool_use_id: id, content: DEGREES[input.city] }));
  const messages = [...said(BOTH).messages, { role: "assistant", content: first.content }, { role: "user", content }];
  return { first: message(first), last: message(await ask({ messages, ...asked })) };
}

const THINKING = { thinking: { type: "enabled", budget_tokens: 1024 }, max_tokens: 2048 };

export const checks = {
  text: async ({ create }) => message(await create({ ...said("Say hi"), system: "Be brief.", temperature: 0.5 })),
  "streamed text": async ({ stream }) => {
    const events = stream(said("Say hi"));
    const pieces = [];
    events.on("text", (piece) => pieces.push(piece));
    return { ...message(await events.finalMessage()), pieces };
  },
  tools: ({ create }) => messageTools(create),
  "streamed tools": ({ stream }) => messageTools((body) => stream(body).finalMessage()),
  "streamed thoughtful tools": ({ stream }) => messageTools((body) => stream(body).finalMessage(), THINKING),
  thought: async ({ create }) => message(await create({ ...said("2+2?"), ...THINKING })),
  object: async ({ create }) => {
    const format = { type: "json_schema", schema: WEATHER };
    const answer = await create({ ...said("Weather in Paris?"), output_config: { format } });
    return JSON.parse(message(answer).text);
  },
  image: async ({ create }) => {
    const source = { type: "base64", media_type: "image/png", data: PNG };
    return message(
      await create(
        said([
          { type: "image", source },
          { type: "text", text: "What is this?" },
        ]),
      ),
    );
  },
  error: ({ create }) =>
    failureOf(create(said("Fail at once")), ({ constructor, status, error }) => ({
      kind: constructor.name,
      status,
      message: error.error.message,
    })),
  "broken stream": async ({ stream }) => {
    const pieces = [];
    const events = stream(said("Break off"));
    events.on("text", (piece) => pieces.push(piece));
    return { pieces, ends: [await failureOf(events.finalMessage(), ({ error }) => error.error.message)] };
  },
};

export function made(url, model) {
  const { messages } = new Anthropic({ baseURL: url, apiKey: KEY, maxRetries: 0 });
  const whole = (body) => ({ model, max_tokens: 64, ...body });
  return { create: (body) => messages.create(whole(body)), stream: (body) => messages.stream(whole(body)) };
}
