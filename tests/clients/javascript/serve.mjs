// Serves checks: a question per line of standard input, {client, check, url}, and an answer per line of standard output,
// {told} or {failure}.
import { createInterface } from "node:readline";

export const KEY = process.env.PROXY_KEY;
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr); // a library's own words must not be taken for answers

export async function serve(ask) {
  for await (const line of createInterface({ input: process.stdin })) {
    const question = JSON.parse(line);
    let answer;
    try {
      answer = { told: await ask(question) };
    } catch (error) {
      answer = { failure: describe(error) };
    }
    write(JSON.stringify(answer) + "\n");
  }
}

function describe(error) {
  const body = error.responseBody ?? "";
  return `${error.stack ?? error} ${body} ${error.cause ? "because of " + describe(error.cause) : ""}`;
}

export async function failureOf(promise, read) {
  try {
    await promise;
  } catch (error) {
    return read(error);
  }
  throw new Error("it did not fail");
}
