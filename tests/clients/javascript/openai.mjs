// OpenAI's own client: chat completions and Responses.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ABOUT, BOTH, CITY, DEGREES, PNG, said } from "./conversation.mjs";
import { failureOf, KEY, serve } from "./serve.mjs";

const WEATHER = z.object({ city: z.string(), celsius: z.int() });
const FUNCTION = { ...ABOUT, parameters: CITY };
const TOOLS = { tools: [{ type: "function", function: FUNCTION }] };
const FLAT_TOOLS = { tools: [{ type: "function", strict: false, ...FUNCTION }] };
const IMAGE = `data:image/png;base64,${PNG}`;

function completion({ choices: [{ message, finish_reason }], usage }) {
  return {
    text: message.content ?? "",
    thought: message.reasoning_content ?? "",
    finish: finish_reason,
    usage: {
      prompt: usage.prompt_tokens,
      answer: usage.completion_tokens,
      total: usage.total_tokens,
      cached: usage.prompt_tokens_details?.cached_tokens,
      reasoning: usage.completion_tokens_details?.reasoning_tokens,
    },
    calls: message.tool_calls?.map((call) => [call.id, call.function.name, JSON.parse(call.function.arguments)]) ?? [],
  };
}

async function chatted(api, body) {
  const pieces = [];
  const stream = api.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
  for await (const { choices } of stream) pieces.push(choices[0]?.delta.content);
  return { ...completion(await stream.finalChatCompletion()), pieces: pieces.filter(Boolean) };
}

async function chatWithTools(ask, model) {
  const messages = [{ role: "user", content: BOTH }];
  const { message, told } = await ask({ model, messages, ...TOOLS });
  messages.push(message);
  for (const call of message.tool_calls) {
    const content = DEGREES[JSON.parse(call.function.arguments).city];
    messages.push({ role: "tool", tool_call_id: call.id, content });
  }
  return { first: told, last: (await ask({ model, messages, ...TOOLS })).told };
}

const CHAT = {
  text: async (api, model) => {
    const messages = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Say hi" },
    ];
    const more = { temperature: 0.5, max_completion_tokens: 64, stop: ["END"] };
    return completion(await api.chat.completions.create({ model, messages, ...more }));
  },
  "streamed text": (api, model) => chatted(api, { model, ...said("Say hi") }),
  tools: (api, model) =>
    chatWithTools(async (body) => {
      const answer = await api.chat.completions.create(body);
      return { message: answer.choices[0].message, told: completion(answer) };
    }, model),
  "streamed tools": (api, model) =>
    chatWithTools(async (body) => {
      const stream = api.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
      const answer = await stream.finalChatCompletion();
      return { message: answer.choices[0].message, told: completion(answer) };
    }, model),
  "run tools": async (api, model) => {
    const called = { ...FUNCTION, parse: JSON.parse, function: ({ city }) => DEGREES[city] };
    const runner = api.chat.completions.runTools({
      model,
      ...said(BOTH),
      tools: [{ type: "function", function: called }],
    });
    return runner.finalContent();
  },
  thought: async (api, model) =>
    completion(await api.chat.completions.create({ model, reasoning_effort: "low", ...said("2+2?") })),
  object: async (api, model) => {
    const format = zodResponseFormat(WEATHER, "weather");
    const answer = await api.chat.completions.parse({ model, ...said("Weather in Paris?"), response_format: format });
    return answer.choices[0].message.parsed;
  },
  image: async (api, model) => {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: IMAGE } },
    ];
    return completion(await api.chat.completions.create({ model, ...said(content) }));
  },
  error: (api, model) => failureOf(api.chat.completions.create({ model, ...said("Fail at once") }), seen),
  "broken stream": (api, model) => broken(api.chat.completions.create({ model, stream: true, ...said("Break off") })),
};

function response({ output, output_text, status, usage }) {
  const calls = output.filter((item) => item.type === "function_call");
  const thoughts = output.filter((item) => item.type === "reasoning");
  return {
    text: output_text,
    thought: thoughts.flatMap((item) => item.summary.map((part) => part.text)).join(""),
    finish: status,
    usage: {
      prompt: usage.input_tokens,
      answer: usage.output_tokens,
      total: usage.total_tokens,
      cached: usage.input_tokens_details.cached_tokens,
      reasoning: usage.output_tokens_details.reasoning_tokens,
    },
    calls: calls.map((item) => [item.call_id, item.name, JSON.parse(item.arguments)]),
  };
}

async function responded(api, body) {
  const stream = api.responses.stream(body);
  const kinds = [];
  const pieces = [];
  for await (const event of stream) {
    kinds.push(event.type);
    if (event.type === "response.output_text.delta") pieces.push(event.delta);
  }
  return { answer: await stream.finalResponse(), kinds, pieces };
}

async function respondWithTools(ask, model, more = {}) {
  const input = [{ role: "user", content: BOTH }];
  const first = await ask({ model, input, ...FLAT_TOOLS, ...more });
  input.push(...first.output);
  for (const item of first.output.filter(({ type }) => type === "function_call")) {
    input.push({
      type: "function_call_output",
      call_id: item.call_id,
      output: DEGREES[JSON.parse(item.arguments).city],
    });
  }
  return { first: response(first), last: response(await ask({ model, input, ...FLAT_TOOLS, ...more })) };
}

const THINKING = { reasoning: { effort: "low", summary: "auto" } };

const RESPONSES = {
  text: async (api, model) => {
    const more = { instructions: "Be brief.", temperature: 0.5, max_output_tokens: 64 };
    return response(await api.responses.create({ model, input: "Say hi", ...more }));
  },
  "streamed text": async (api, model) => {
    const { answer, kinds, pieces } = await responded(api, { model, input: "Say hi" });
    return { ...response(answer), kinds, pieces };
  },
  tools: (api, model) => respondWithTools((body) => api.responses.create(body), model),
  "streamed tools": (api, model) => respondWithTools(async (body) => (await responded(api, body)).answer, model),
  "streamed thoughtful tools": (api, model) =>
    respondWithTools(async (body) => (await responded(api, body)).answer, model, THINKING),
  thought: async (api, model) => response(await api.responses.create({ model, input: "2+2?", ...THINKING })),
  object: async (api, model) => {
    const text = { format: zodTextFormat(WEATHER, "weather") };
    return (await api.responses.parse({ model, input: "Weather in Paris?", text })).output_parsed;
  },
  image: async (api, model) => {
    const content = [
      { type: "input_text", text: "What is this?" },
      { type: "input_image", image_url: IMAGE, detail: "auto" },
    ];
    return response(await api.responses.create({ model, input: [{ role: "user", content }] }));
  },
  error: (api, model) => failureOf(api.responses.create({ model, input: "Fail at once" }), seen),
  "broken stream": async (api, model) => {
    const pieces = [];
    const ends = [];
    for await (const event of await api.responses.create({ model, input: "Break off", stream: true })) {
      if (event.type === "response.output_text.delta") pieces.push(event.delta);
      if (event.type === "error") ends.push(event.message);
      if (event.type === "response.failed") ends.push(event.response.error.message);
      if (event.type === "response.completed") ends.push("completed");
    }
    return { pieces, ends };
  },
};

const seen = (error) => ({ kind: error.constructor.name, status: error.status, message: error.error?.message });

async function broken(promise) {
  const pieces = [];
  const read = async () => {
    for await (const { choices } of await promise) pieces.push(choices[0]?.delta.content);
  };
  const ends = [await failureOf(read(), (error) => error.error?.message ?? error.message)];
  return { pieces: pieces.filter(Boolean), ends };
}

const CLIENTS = { chat: CHAT, responses: RESPONSES };

await serve(({ client, check, url, model }) =>
  CLIENTS[client][check](new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY, maxRetries: 0 }), model),
);
