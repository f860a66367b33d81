import { readdirSync } from "node:fs";

import type { DescFile } from "@bufbuild/protobuf";

const folder = new URL("../src/gen/ose/registry/v1/", import.meta.url);

/** Every file of the API, whichever there are. */
export const all: DescFile[] = (
  await Promise.all(
    readdirSync(folder)
      .filter((name) => name.endsWith("_pb.js"))
      .map((name) => import(new URL(name, folder).href) as Promise<Record<string, unknown>>),
  )
)
  .flatMap((module) => Object.entries(module))
  .filter(([name]) => name.startsWith("file_"))
  .map(([, file]) => file as DescFile);
