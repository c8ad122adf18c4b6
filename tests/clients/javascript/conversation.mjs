// The conversation that every client has.

export const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const BOTH = "Weather in Paris and Rome?";
export const DEGREES = { Paris: "20 degrees", Rome: "25 degrees" };
export const ABOUT = { name: "get_weather", description: "Weather of a city" };
export const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" }, celsius: { type: "integer" } },
  required: ["city", "celsius"],
  additionalProperties: false,
};

export const said = (content) => ({ messages: [{ role: "user", content }] });
