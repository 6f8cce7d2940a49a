export * from "./client.js";
export * from "./errors.js";
export type { ClientOptions } from "./exchange.js";
export type * from "./schema.js";
