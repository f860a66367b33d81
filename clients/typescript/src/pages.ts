import type { CallOptions } from "@connectrpc/connect";

/**
 * Yields all pages of a listing, which are all of one revision, each asked for when it is needed. It works
 * with every method that has pages:
 *
 *     for await (const page of pages(registry.entities.listEntities, { type: ["service"] })) {
 *
 * Who takes more than a minute for a page may find the next one gone, with the reason TOKEN_EXPIRED.
 */
export async function* pages<Request extends object, Page extends { nextPageToken: string }>(
  method: (request: Request, options?: CallOptions) => Promise<Page>,
  request: NoInfer<Request>,
  options?: CallOptions,
): AsyncGenerator<Page, void, undefined> {
  let asked = request;
  for (;;) {
    const page = await method(asked, options);
    yield page;
    if (page.nextPageToken === "") {
      return;
    }
    asked = { ...request, pageToken: page.nextPageToken };
  }
}
