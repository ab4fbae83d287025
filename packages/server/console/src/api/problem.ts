/** An error that the service, or the way to it, gave. */
export class ServiceProblem extends Error {
  constructor(
    readonly code: string,
    detail: string,
    readonly status: number,
    readonly position: { line: number; column: number } | null = null,
    readonly queryId: string | null = null,
  ) {
    super(detail);
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** Any failure as a problem, so that whoever shows it has one case. */
export function toProblem(error: unknown): ServiceProblem {
  if (error instanceof ServiceProblem) return error;
  const cause = error instanceof Error ? error.message : String(error);
  const isAway = error instanceof TypeError && /fetch|network|load failed/i.test(cause); // as browsers say it
  const why = isAway ? "it is down, or the network is" : cause;
  return new ServiceProblem("unreachable", `The service does not answer: ${why}`, 0);
}

/** Read the problem document of an answer that is not a success. */
export async function problemOf(response: Response): Promise<ServiceProblem> {
  const body: unknown = await response.json().catch(() => null);
  const document = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  const { line, column } = document;
  return new ServiceProblem(
    text(document["code"]) ?? `http_${response.status}`,
    text(document["detail"]) ?? text(document["title"]) ?? `The service answered ${response.status}.`,
    response.status,
    typeof line === "number" && typeof column === "number" ? { line, column } : null,
    text(document["query_id"]) ?? response.headers.get("DagFusion-Query-Id"),
  );
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
