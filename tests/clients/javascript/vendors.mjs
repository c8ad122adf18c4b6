// The clients of Anthropic, Google and Ollama in one process.
import * as anthropic from "./anthropic.mjs";
import * as google from "./google.mjs";
import * as ollama from "./ollama.mjs";
import { serve } from "./serve.mjs";

const CLIENTS = { anthropic, google, ollama };

await serve(({ client, check, url, model }) => {
  const { made, checks } = CLIENTS[client];
  return checks[check](made(url, model));
});
