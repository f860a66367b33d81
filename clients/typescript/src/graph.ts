import type { CallOptions } from "@connectrpc/connect";

import type { Entity } from "./gen/ose/registry/v1/entity_pb.js";
import type { GraphResponse } from "./gen/ose/registry/v1/graph_service_pb.js";
import type { Relationship } from "./gen/ose/registry/v1/relationship_pb.js";
import { pages } from "./pages.js";

/** A part of the graph, as it was at one revision. */
export class Graph {
  /** The entities, nearest first; the first is the root. */
  readonly nodes: Entity[] = [];
  /** The relationships that were walked. */
  readonly edges: Relationship[] = [];
  /** How many steps each node is away from the root. */
  readonly distances: number[] = [];
  /** The id of the entity that the walk started at. */
  readonly rootId: string;
  /** What all of it is of. */
  readonly revision: bigint;
  /** Whether nothing was cut. */
  readonly complete: boolean;

  private readonly parents: number[] = [];
  private readonly positions: Map<string, number>;
  private readonly first: number;

  /** The answer that some pages are together. */
  constructor(parts: readonly [GraphResponse, ...GraphResponse[]]) {
    for (const part of parts) {
      this.nodes.push(...part.nodes);
      this.edges.push(...part.edges);
      this.distances.push(...part.distances);
      this.parents.push(...part.parents);
    }
    const last = parts.at(-1) ?? parts[0];
    this.rootId = last.rootId;
    this.revision = last.revision;
    this.complete = last.complete;
    this.first = parts[0].firstPosition;
    this.positions = new Map(this.nodes.map((node, at) => [node.id, at]));
  }

  /**
   * A shortest path from the root to a node, both included; undefined if there is no node of this id, or if
   * the path begins before the page that was asked for by its token.
   */
  pathTo(id: string): Entity[] | undefined {
    const path: Entity[] = [];
    let at = this.positions.get(id);
    while (at !== undefined) {
      const node = this.nodes[at];
      if (node === undefined) {
        return undefined;
      }
      path.unshift(node);
      const parent = this.parents[at] ?? -1;
      if (parent < 0) {
        return path;
      }
      at = parent - this.first;
    }
    return undefined;
  }
}

interface Limits {
  nodeLimit?: number;
  edgeLimit?: number;
  byteLimit?: number;
}

/**
 * Asks a question about the graph and answers it whole, however many pages that takes:
 *
 *     const needs = await walk(registry.graph.getDependencies, { id: "shop" });
 *
 * A question that sets a limit is answered with one page; see `complete`.
 */
export async function walk<Question extends Limits>(
  method: (question: Question, options?: CallOptions) => Promise<GraphResponse>,
  question: NoInfer<Question>,
  options?: CallOptions,
): Promise<Graph> {
  const found: GraphResponse[] = [];
  for await (const page of pages(method, question, options)) {
    found.push(page);
    if (question.nodeLimit || question.edgeLimit || question.byteLimit) {
      break;
    }
  }
  return new Graph(found as [GraphResponse, ...GraphResponse[]]);
}
