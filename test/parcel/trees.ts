import assert from 'node:assert/strict'
import { chmod, lstat, mkdir, open, readdir, readFile, readlink, symlink } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { extents } from '../../lib/chunk/extents.js'
import { collect } from '../chunk/collect.js'
import { writeSparse } from '../chunk/sparse.js'

export type Node =
  | { type: 'file'; mode: number; pages: boolean[]; missing: number }
  | { type: 'symlink'; target: Buffer }
  | { type: 'folder'; mode: number; nodes: { name: Buffer; node: Node }[] }

export type Folder = Node & { type: 'folder' }

/** Any name that a file can have: odd bytes, newlines, what is not UTF-8. */
const name = fc
  .oneof(
    fc.uint8Array({ min: 1, minLength: 1, maxLength: 12 }),
    fc.constantFrom('a', 'a.b', 'a b', 'A', '-rf', '...', '\n', ' ', 'ü', '.x', '~').map((text) => {
      return new Uint8Array(Buffer.from(text))
    }),
    // What every object has.
    fc.constantFrom('constructor', '__proto__', 'toString').map((text) => {
      return new Uint8Array(Buffer.from(text))
    }),
    fc.constant(new Uint8Array(255).fill(0x7a))
  )
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0x2f ? 0x80 : byte))))
  .filter((bytes) => !['.', '..'].includes(bytes.toString()))

const mode = fc.oneof(fc.constantFrom(0o644, 0o755, 0o600, 0o4755, 0o1777, 0), fc.nat(0o7777))

const file: fc.Arbitrary<Node> = fc
  .tuple(
    mode,
    fc.array(fc.tuple(fc.boolean(), fc.oneof(fc.nat(3), fc.nat(40))), { maxLength: 6 }),
    fc.nat(4_095)
  )
  .map(([mode, runs, missing]) => {
    const pages = runs.flatMap(([isData, count]) => Array.from({ length: count }, () => isData))
    return { type: 'file', mode, pages, missing: pages.length === 0 ? 0 : missing }
  })

const link: fc.Arbitrary<Node> = name.map((target) => ({ type: 'symlink', target }))

function folderOf(node: fc.Arbitrary<Node>): fc.Arbitrary<Folder> {
  const entry = fc.tuple(name, node).map(([name, node]) => ({ name, node }))
  const nodes = fc.uniqueArray(entry, {
    maxLength: 5,
    selector: ({ name }) => name.toString('latin1')
  })
  return fc.tuple(mode, nodes).map(([mode, nodes]) => ({ type: 'folder', mode, nodes }))
}

const level1 = fc.oneof(file, link, folderOf(file))
const level2 = fc.oneof({ weight: 2, arbitrary: level1 }, folderOf(level1))
export const tree = folderOf(level2)

/** Makes the contents of a folder that is there. */
export async function build(path: Buffer, { nodes }: Folder): Promise<void> {
  for (const { name, node } of nodes) {
    const at = Buffer.concat([path, Buffer.from('/'), name])
    if (node.type === 'symlink') {
      await symlink(node.target, at)
      continue
    }
    if (node.type === 'folder') {
      await mkdir(at)
      await build(at, node)
    } else {
      await writeSparse(at, node.pages, node.pages.length * 4_096 - node.missing)
    }
    await chmod(at, node.mode)
  }
}

export interface Snapshot {
  /** By path: all that must come back exactly. */
  files: Map<string, string>
  /** Of files and folders, ns. */
  times: Map<string, bigint>
}

/** What is below a folder. */
export async function snapshot(root: string): Promise<Snapshot> {
  const found: Snapshot = { files: new Map(), times: new Map() }
  await look(Buffer.from(root), '', found)
  return found
}

/** Times are set through a double: they come back within 2 µs. */
export function assertSame(actual: Snapshot, expected: Snapshot): void {
  assert.deepEqual(actual.files, expected.files)
  for (const [path, time] of expected.times) {
    const age = (actual.times.get(path) ?? 0n) - time
    assert.ok(age < 2_000n && age > -2_000n, `${path}: its mtime is ${age} ns off`)
  }
}

async function look(folder: Buffer, prefix: string, { files, times }: Snapshot): Promise<void> {
  for (const name of await readdir(folder, { encoding: 'buffer' })) {
    const at = Buffer.concat([folder, Buffer.from('/'), name])
    const path = `${prefix}/${name.toString('latin1')}`
    const stats = await lstat(at, { bigint: true })
    const mode = (Number(stats.mode) & 0o7777).toString(8)
    if (stats.isSymbolicLink()) {
      files.set(path, `link ${(await readlink(at, { encoding: 'buffer' })).toString('latin1')}`)
      continue
    }
    times.set(path, stats.mtimeNs)
    if (stats.isDirectory()) {
      files.set(path, `folder ${mode}`)
      await look(at, path, { files, times })
    } else {
      files.set(path, `file ${mode} ${stats.size} ${await digest(at)} ${await holes(at)}`)
    }
  }
}

async function digest(path: Buffer): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('base64')
}

async function holes(path: Buffer): Promise<string> {
  const handle = await open(path)
  try {
    return JSON.stringify(await collect(extents(handle.fd)))
  } finally {
    await handle.close()
  }
}
