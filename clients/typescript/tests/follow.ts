// Follows a real server, which whoever runs this kills and starts again, until an entity of the id "last" comes,
// and prints what came.
import process from "node:process";

import { connect as connectNode } from "../src/node.js";
import { connect as connectWeb } from "../src/web.js";

const target = process.env["REGISTRY_RESTARTS"] ?? "";
const registry = target.startsWith("http") ? connectWeb(target) : connectNode(target);
follow: for await (const update of registry.watch({ start: { case: "startRevision", value: 2n } })) {
  for (const event of update.kind === "changes" ? update.events : []) {
    const id = event.resource.case === "entity" ? event.resource.value.id : "";
    console.log("event", String(event.revision), id);
    if (id === "last") {
      break follow;
    }
  }
}
registry.close();
