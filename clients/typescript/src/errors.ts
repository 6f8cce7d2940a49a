/** Errors of the client: a refusal has the four parts of its problem document (RFC 9457). */

import type { EventsAnswer, FaultBody, Problem } from "./schema.js";

/** A call did not succeed. */
export class ClientError extends Error {
  override name = "ClientError";
}

/** No answer came within the attempts and the deadline of the call. */
export class ServerUnreachable extends ClientError {
  override name = "ServerUnreachable";
}

/** The answer is no document of a server of midstream, such as the page of a proxy. */
export class AnswerUnreadable extends ClientError {
  override name = "AnswerUnreadable";
}

/** What a process of the server makes is not there yet; the same call later returns it. */
export class AnswerPending extends ClientError {
  override name = "AnswerPending";
}

/** The server refused the request. */
export class Refused extends ClientError {
  override name = "Refused";
  /** Every fault that the server named, at least one; `page` is an address that a browser opens. */
  readonly faults: readonly FaultBody[];

  constructor(
    readonly problem: Problem,
    server: string,
    rejected: readonly FaultBody[] = [],
  ) {
    const first: FaultBody = {
      pointer: problem.pointer ?? "",
      came: problem.came || problem.detail,
      right: problem.right ?? "",
      page: problem.page ?? "",
    };
    const named = [...(problem.errors ?? []), ...rejected];
    const faults = (named.length > 0 ? named : [first]).map((fault) => ({
      ...fault,
      page: fault.page.startsWith("/") ? server + fault.page : fault.page,
    }));
    const parts = faults.flatMap((fault) => [fault.pointer, fault.came, fault.right, fault.page]);
    super([`${problem.title} (${problem.status}, ${problem.type}).`, ...parts.filter((part) => part)].join("\n  "));
    this.faults = faults;
  }

  /** Pointer of the first fault. */
  get where(): string {
    return this.faults[0]?.pointer ?? "";
  }

  /** Value that came. */
  get came(): string {
    return this.faults[0]?.came ?? "";
  }

  /** What would be right. */
  get right(): string {
    return this.faults[0]?.right ?? "";
  }

  /** Address of the page that explains it. */
  get page(): string {
    return this.faults[0]?.page ?? "";
  }

  /** HTTP status. */
  get status(): number {
    return this.problem.status;
  }
}

/** Events came and none of them was taken (422). */
export class EventsRejected extends Refused {
  override name = "EventsRejected";

  constructor(
    problem: Problem,
    server: string,
    readonly answer: EventsAnswer,
  ) {
    super(problem, server, answer.rejected);
  }
}

/** Return the error of an answer that is no success. */
export function refusalOf(status: number, text: string, server: string): ClientError {
  try {
    const problem = JSON.parse(text) as Partial<Problem> | null;
    if (typeof problem?.type === "string" && typeof problem.title === "string" && typeof problem.status === "number") {
      const whole = problem as Problem;
      const answer = whole as unknown as EventsAnswer;
      return status === 422 && Array.isArray(answer.rejected)
        ? new EventsRejected(whole, server, answer)
        : new Refused(whole, server);
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return new AnswerUnreadable(`${server} answered ${status} without a problem document: ${text.slice(0, 200)}`);
}
