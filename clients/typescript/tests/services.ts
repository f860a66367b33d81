import { readdirSync } from "node:fs";

import type { DescFile } from "@bufbuild/protobuf";

import { file_google_rpc_error_details } from "../src/gen/google/rpc/error_details_pb.js";

const folder = new URL("../src/gen/ose/registry/v1/", import.meta.url);

const modules = await Promise.all(
  readdirSync(folder)
    .filter((name) => name.endsWith("_pb.js"))
    .map((name) => import(new URL(name, folder).href) as Promise<Record<string, unknown>>),
);

/** Every file of the API, whichever there are, and that of what errors say. */
export const all: DescFile[] = [
  file_google_rpc_error_details,
  ...modules
    .flatMap((module) => Object.entries(module))
    .filter(([name]) => name.startsWith("file_"))
    .map(([, file]) => file as DescFile),
];
