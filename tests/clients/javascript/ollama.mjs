// Ollama's client.
import { Ollama } from "ollama";
import { ABOUT, BOTH, CITY, DEGREES, PNG, said, WEATHER } from "./conversation.mjs";
import { failureOf, KEY } from "./serve.mjs";

function chatted({ message: { content, thinking, tool_calls }, done_reason, prompt_eval_count, eval_count }) {
  return {
    text: content,
    thought: thinking ?? "",
    finish: done_reason,
    usage: { prompt: prompt_eval_count, answer: eval_count },
    calls: (tool_calls ?? []).map((call) => [call.id, call.function.name, call.function.arguments]),
  };
}

async function gathered(chat, body) {
  const whole = { content: "", thinking: "", tool_calls: [] };
  const pieces = [];
  let last;
  for await (const part of await chat({ ...body, stream: true })) {
    whole.content += part.message.content;
    whole.thinking += part.message.thinking ?? "";
    whole.tool_calls.push(...(part.message.tool_calls ?? []));
    if (part.message.content) pieces.push(part.message.content);
    last = part;
  }
  return { answer: { ...last, message: { role: "assistant", ...whole } }, pieces };
}

async function chatTools(ask, more = {}) {
  const tools = [{ type: "function", function: { ...ABOUT, parameters: CITY } }];
  const messages = said(BOTH).messages;
  const first = await ask({ messages: [...messages], tools, ...more });
  messages.push(first.message);
  for (const call of first.message.tool_calls) {
    const content = DEGREES[call.function.arguments.city];
    messages.push({ role: "tool", tool_name: call.function.name, content });
  }
  return { first: chatted(first), last: chatted(await ask({ messages, tools, ...more })) };
}

export const checks = {
  text: async ({ chat }) => {
    const messages = [{ role: "system", content: "Be brief." }, ...said("Say hi").messages];
    return chatted(await chat({ messages, options: { temperature: 0.5, num_predict: 64 } }));
  },
  "streamed text": async ({ chat }) => {
    const { answer, pieces } = await gathered(chat, said("Say hi"));
    return { ...chatted(answer), pieces };
  },
  tools: ({ chat }) => chatTools(chat),
  "streamed tools": ({ chat }) => chatTools(async (body) => (await gathered(chat, body)).answer),
  "streamed thoughtful tools": ({ chat }) =>
    chatTools(async (body) => (await gathered(chat, body)).answer, { think: true }),
  thought: async ({ chat }) => chatted(await chat({ ...said("2+2?"), think: true })),
  object: async ({ chat }) =>
    JSON.parse((await chat({ ...said("Weather in Paris?"), format: WEATHER })).message.content),
  image: async ({ chat }) =>
    chatted(await chat({ messages: [{ role: "user", content: "What is this?", images: [PNG] }] })),
  error: ({ chat }) =>
    failureOf(chat(said("Fail at once")), ({ name, status_code, message }) => ({
      kind: name,
      status: status_code,
      message,
    })),
  "broken stream": async ({ chat }) => {
    const pieces = [];
    const read = async () => {
      for await (const part of await chat({ ...said("Break off"), stream: true })) pieces.push(part.message.content);
    };
    return { pieces, ends: [await failureOf(read(), ({ message }) => message)] };
  },
};

export function made(host, model) {
  const api = new Ollama({ host, headers: { Authorization: `Bearer ${KEY}` } });
  return { chat: (body) => api.chat({ model, ...body }) };
}
