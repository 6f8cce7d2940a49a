/** Consent of a visitor. Each level allows what the one before it allows. */
export type Consent = "necessary" | "statistics" | "personalised";

/** A signed-in user and the token that the shop's own server signed for it. */
export interface User {
  id: string;
  /** JSON Web Token under the user secret of the browser key. A server without keys needs none. */
  token?: string;
}

export interface Options {
  /** Address of the midstream server, such as `https://recommend.shop.example`. Empty: the origin of the page. */
  url: string;
  /** Browser key. A server without keys needs none. */
  key?: string;
  /** Signed-in user of this page load. */
  user?: User;
  /** `necessary` when it is left out, whatever Do Not Track or Global Privacy Control say. */
  consent?: Consent;
}

export type Value = string | number | boolean;

/** Fields of an interaction; the type, the ids of the visitor, the time and the event id are added. */
export interface Fields {
  item_id?: string;
  items?: { item_id: string; value?: number; quantity?: number; position?: number }[];
  value?: number;
  quantity?: number;
  request_id?: string;
  position?: number | undefined;
  context?: Record<string, Value>;
}

export interface Interaction extends Fields {
  type: string;
  event_id: string;
  time: number;
  user_id?: string;
  session_id?: string;
}

/** Fields of a question; the placement and the ids of the visitor are added. */
export interface Question {
  n?: number;
  items?: string[];
  exclude?: string[];
  fields?: string[];
  context?: Record<string, Value>;
  reasons?: string;
}

export interface SlateItem {
  id: string;
  score: number | null;
  position: number;
  fields?: Record<string, unknown>;
  reason?: string;
}

/** Answer of `POST /v1/recommendations`, unchanged. */
export interface Slate {
  request_id: string;
  placement: string;
  items: SlateItem[];
  [name: string]: unknown;
}

/** Error of a question that was answered with another status than 200. */
export interface QuestionError extends Error {
  status: number;
  /** Problem document of the server (RFC 9457); empty where the body was none. */
  problem: Record<string, unknown>;
}

export interface Counts {
  /** Events that wait to be acknowledged. */
  queued: number;
  /** Events that were discarded because the queue was full. */
  dropped: number;
  /** Events that the server refused by themselves. */
  refused: number;
}
