// The Vercel AI SDK with the providers of four APIs.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  defaultSettingsMiddleware,
  generateText as generate,
  Output,
  stepCountIs,
  streamText as stream,
  tool,
  wrapLanguageModel,
} from "ai";
import { z } from "zod";
import { ABOUT, BOTH, DEGREES, PNG } from "./conversation.mjs";
import { failureOf, KEY, serve } from "./serve.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const WEATHER = z.object({ city: z.string(), celsius: z.int() });

const tools = {
  get_weather: tool({
    description: ABOUT.description,
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => DEGREES[city],
  }),
};

const openai = (url) => createOpenAI({ baseURL: `${url}/v1`, apiKey: KEY });
const STATELESS = defaultSettingsMiddleware({ settings: { providerOptions: { openai: { store: false } } } });

const MODELS = {
  openai: (url, name) => openai(url).chat(name),
  responses: (url, name) => wrapLanguageModel({ model: openai(url).responses(name), middleware: STATELESS }),
  "storing responses": (url, name) => openai(url).responses(name),
  compatible: (url, name) =>
    createOpenAICompatible({
      name: "proxy",
      baseURL: `${url}/v1`,
      apiKey: KEY,
      includeUsage: true,
      supportsStructuredOutputs: true,
    }).chatModel(name),
  anthropic: (url, name) => createAnthropic({ baseURL: `${url}/v1`, apiKey: KEY }).messages(name),
  google: (url, name) => createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey: KEY }).chat(name),
};

const THINKING = {
  openai: { openai: { reasoningEffort: "low" } },
  responses: { openai: { reasoningEffort: "low", reasoningSummary: "auto", forceReasoning: true } },
  compatible: { proxy: { reasoningEffort: "low" } },
  anthropic: { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } },
  google: { google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 1024 } } },
};

const STRUCTURED = { anthropic: { structuredOutputMode: "outputFormat" } };

const generateText = (asked) => generate({ maxRetries: 0, ...asked });
const streamText = (asked) => stream({ maxRetries: 0, ...asked });

async function told(result) {
  const { text, reasoningText, finishReason, usage, steps } = result;
  const counts = await usage;
  return {
    text: await text,
    thought: (await reasoningText) ?? "",
    finish: await finishReason,
    usage: {
      prompt: counts.inputTokens,
      answer: counts.outputTokens,
      total: counts.totalTokens,
      cached: counts.inputTokenDetails.cacheReadTokens,
      reasoning: counts.outputTokenDetails.reasoningTokens,
    },
    calls: (await steps).map((step) =>
      step.toolCalls.map(({ toolCallId, toolName, input }) => [toolCallId, toolName, input]),
    ),
  };
}

async function streamed(asked) {
  const failures = [];
  const result = streamText({ ...asked, onError: ({ error }) => failures.push(error) });
  const pieces = [];
  for await (const piece of result.textStream) pieces.push(piece);
  if (failures.length) throw failures[0];
  return { ...(await told(result)), pieces };
}

const withTools = (model) => ({ model, prompt: BOTH, tools, stopWhen: stepCountIs(3) });
const withSchema = (model) => ({
  model,
  prompt: "Weather in Paris?",
  output: Output.object({ schema: WEATHER }),
  providerOptions: STRUCTURED,
});

const CHECKS = {
  text: async (model) =>
    told(await generateText({ model, system: "Be brief.", prompt: "Say hi", temperature: 0.5, maxOutputTokens: 64 })),
  "streamed text": (model) => streamed({ model, system: "Be brief.", prompt: "Say hi" }),
  turns: async (model) => {
    const asked = { role: "user", content: "Say hi" };
    const first = await generateText({ model, messages: [asked] });
    const again = [asked, ...first.response.messages, { role: "user", content: "Once more" }];
    return told(await generateText({ model, messages: again }));
  },
  tools: async (model) => told(await generateText(withTools(model))),
  "streamed tools": (model) => streamed(withTools(model)),
  "thoughtful tools": async (model, client) =>
    told(await generateText({ ...withTools(model), providerOptions: THINKING[client] })),
  "streamed thoughtful tools": (model, client) => streamed({ ...withTools(model), providerOptions: THINKING[client] }),
  thought: async (model, client) =>
    told(await generateText({ model, prompt: "2+2?", providerOptions: THINKING[client] })),
  "streamed thought": (model, client) => streamed({ model, prompt: "2+2?", providerOptions: THINKING[client] }),
  object: async (model) => (await generateText(withSchema(model))).output,
  "streamed object": async (model) => {
    const result = streamText(withSchema(model));
    const seen = [];
    for await (const partial of result.partialOutputStream) seen.push(partial);
    const whole = await result.output;
    if (JSON.stringify(seen.at(-1)) !== JSON.stringify(whole)) throw new Error(`streamed ${JSON.stringify(seen)}`);
    return whole;
  },
  "object by a tool": async (model) => {
    const output = Output.object({ schema: z.object({ city: z.string() }) });
    const providerOptions = { anthropic: { structuredOutputMode: "jsonTool" } };
    return (await generateText({ model, prompt: "Where?", output, providerOptions })).output;
  },
  image: async (model) => {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image", image: PNG, mediaType: "image/png" },
    ];
    return told(await generateText({ model, messages: [{ role: "user", content }] }));
  },
  error: (model) =>
    failureOf(generateText({ model, prompt: "Fail at once" }), (error) => ({
      kind: error.name,
      status: error.statusCode,
      message: error.message,
    })),
  "broken stream": async (model) => {
    const seen = { pieces: [], failures: [], finishes: [] };
    const result = streamText({ model, prompt: "Break off", onError: () => {} });
    for await (const part of result.fullStream) {
      if (part.type === "text-delta") seen.pieces.push(part.text);
      if (part.type === "error") seen.failures.push(part.error.message ?? part.error);
      if (part.type === "finish") seen.finishes.push(part.finishReason);
    }
    return seen;
  },
};

await serve(({ client, check, url, model }) => CHECKS[check](MODELS[client](url, model), client));
