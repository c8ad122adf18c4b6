// Google's client.
import { GoogleGenAI } from "@google/genai";
import { ABOUT, BOTH, CITY, DEGREES, PNG, WEATHER } from "./conversation.mjs";
import { failureOf, KEY } from "./serve.mjs";

function generated({ candidates: [{ content, finishReason }], usageMetadata: usage }) {
  const texts = content.parts.filter((part) => part.text);
  const join = (parts) => parts.map((part) => part.text).join("");
  const thoughts = usage.thoughtsTokenCount ?? 0;
  return {
    text: join(texts.filter((part) => !part.thought)),
    thought: join(texts.filter((part) => part.thought)),
    finish: finishReason,
    usage: {
      prompt: usage.promptTokenCount,
      answer: usage.candidatesTokenCount + thoughts,
      total: usage.totalTokenCount,
      cached: usage.cachedContentTokenCount,
      reasoning: thoughts,
    },
    calls: content.parts.flatMap(({ functionCall: call }) => (call ? [[call.id, call.name, call.args]] : [])),
  };
}

async function generatedParts(events) {
  const parts = [];
  let last;
  for await (const event of await events) {
    parts.push(...event.candidates[0].content.parts);
    last = event;
  }
  const [candidate] = last.candidates;
  return { ...last, candidates: [{ ...candidate, content: { role: "model", parts } }] };
}

async function generateTools(ask, more = {}) {
  const config = { tools: [{ functionDeclarations: [{ ...ABOUT, parametersJsonSchema: CITY }] }], ...more };
  const asked = { role: "user", parts: [{ text: BOTH }] };
  const first = await ask({ contents: [asked], config });
  const { content } = first.candidates[0];
  const parts = content.parts
    .filter((part) => part.functionCall)
    .map(({ functionCall: { id, name, args } }) => {
      return { functionResponse: { id, name, response: { output: DEGREES[args.city] } } };
    });
  const last = await ask({ contents: [asked, content, { role: "user", parts }], config });
  return { first: generated(first), last: generated(last) };
}

const THOUGHTS = { thinkingConfig: { includeThoughts: true, thinkingBudget: 1024 } };

export const checks = {
  text: async ({ create }) => {
    const config = { systemInstruction: "Be brief.", temperature: 0.5, maxOutputTokens: 64 };
    return generated(await create({ contents: "Say hi", config }));
  },
  "streamed text": async ({ stream }) => {
    const answer = await generatedParts(stream({ contents: "Say hi" }));
    const pieces = answer.candidates[0].content.parts.map((part) => part.text);
    return { ...generated(answer), pieces: pieces.filter(Boolean) };
  },
  tools: ({ create }) => generateTools(create),
  "streamed tools": ({ stream }) => generateTools((body) => generatedParts(stream(body))),
  "streamed thoughtful tools": ({ stream }) => generateTools((body) => generatedParts(stream(body)), THOUGHTS),
  thought: async ({ create }) => generated(await create({ contents: "2+2?", config: THOUGHTS })),
  object: async ({ create }) => {
    const config = { responseMimeType: "application/json", responseJsonSchema: WEATHER };
    return JSON.parse((await create({ contents: "Weather in Paris?", config })).text);
  },
  image: async ({ create }) => {
    const parts = [{ inlineData: { mimeType: "image/png", data: PNG } }, { text: "What is this?" }];
    return generated(await create({ contents: [{ role: "user", parts }] }));
  },
  error: ({ create }) => failureOf(create({ contents: "Fail at once" }), googleError),
  "broken stream": async ({ stream }) => {
    const pieces = [];
    const read = async () => {
      for await (const { text } of await stream({ contents: "Break off" })) pieces.push(text);
    };
    return { pieces, ends: [await failureOf(read(), (error) => googleError(error).message)] };
  },
};

// the whole body is the message, in a stream behind `got status: ...`
const googleError = ({ name, status, message }) => ({
  kind: name,
  status,
  message: JSON.parse(message.slice(message.indexOf("{"))).error.message,
});

export function made(baseUrl, model) {
  const { models } = new GoogleGenAI({ apiKey: KEY, httpOptions: { baseUrl, apiVersion: "v1beta" } });
  return {
    create: (body) => models.generateContent({ model, ...body }),
    stream: (body) => models.generateContentStream({ model, ...body }),
  };
}
