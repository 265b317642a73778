import { pageHash } from '../../lib/chunk/id.js'
import type { Entry, Place } from '../../lib/format/entry.js'
import { encodeFileEntry, type FileEntry } from '../../lib/format/file-table.js'
import { encodePackHeader, type Pack } from '../../lib/format/pack.js'
import {
  encodeIdPage,
  encodePlacePage,
  type IdPage,
  type PlacePage
} from '../../lib/format/page.js'
import { TreeWriter } from '../../lib/image/tree-writer.js'
import { count, plain, type VectorFile } from './vector.js'

const FRAME_MAGIC = Buffer.from('28b52ffd', 'hex')
const PLACE: Place = { core: 1, block: 300, ordinal: 7 }

/** Made by hand so that no compressor's version matters: one raw block, then one run. */
const ZSTD_FRAME = Buffer.concat([
  FRAME_MAGIC,
  // No content size, no checksum; a window of 128 KiB.
  Buffer.from([0x00, 0x38]),
  Buffer.from([(5 << 3) | 0, 0, 0]),
  Buffer.from('hello'),
  // 95 times 'x', the last block.
  Buffer.from([((95 << 3) & 0xff) | 0b011, 95 >> 5, 0]),
  Buffer.from('x')
])

const packs: Pack[] = [
  {
    kind: 'chunks',
    codec: 'none',
    items: [
      { id: count(1), length: 3 },
      { id: count(2), length: 2 }
    ],
    frame: Buffer.from('abcde')
  },
  {
    kind: 'pages',
    codec: 'zstd',
    items: [
      { id: count(3), length: 60 },
      { id: count(4), length: 40 }
    ],
    frame: ZSTD_FRAME
  }
]

const entries: Entry[] = [
  { kind: 'hole' },
  { kind: 'zero', holes: 0 },
  { kind: 'zero', holes: 0x8001 },
  { kind: 'chunk', id: count(5), holes: 0 },
  { kind: 'chunk', id: count(6), holes: 0x00ff },
  {
    kind: 'patched',
    base: count(7),
    patches: [
      { mask: 0x0003, id: count(8) },
      { mask: 0x8000, id: count(9) }
    ]
  }
]
const idPages: IdPage[] = [
  { level: 0, entries },
  { level: 1, children: [count(10), null, count(11)] },
  { level: 4, children: [count(12)] }
]
const placePages: PlacePage[] = [
  { level: 0, idPage: PLACE, items: [[], [], [], [PLACE], [PLACE], [PLACE, PLACE, PLACE]] },
  { level: 1, idPage: { core: 0, block: 0, ordinal: 0 }, children: [PLACE, null, PLACE] },
  { level: 4, idPage: { core: 65_535, block: 2 ** 40, ordinal: 16_383 }, children: [PLACE] }
]

const common = { mode: 0o644, mtime: 1_700_000_000_123_456_789n, extensions: [] }
const lines: FileEntry[] = [
  {
    ...common,
    type: 'file',
    path: Buffer.from('disk.img'),
    role: 'disk',
    chunking: 1,
    size: 2 ** 40,
    root: count(13)
  },
  {
    ...common,
    type: 'file',
    path: Buffer.from('empty'),
    role: 'file',
    chunking: 2,
    size: 0,
    root: null
  },
  { ...common, type: 'folder', path: Buffer.from('folder'), mode: 0o7755, mtime: 0n },
  {
    ...common,
    type: 'symlink',
    path: Buffer.from('folder/not utf-8 \xff', 'latin1'),
    mtime: -62_135_596_800_000_000_000n,
    target: Buffer.from('../elsewhere'),
    extensions: [{ tag: 300, critical: false, value: Buffer.from('kept') }]
  }
]

/** Runs of entries of a file: holes, zeros, or chunks whose ids count up from one run to the next. */
const trees: Record<string, { kind: 'hole' | 'zero' | 'chunk'; count: number }[]> = {
  empty: [],
  'one chunk': [{ kind: 'chunk', count: 1 }],
  'one leaf of zeros': [{ kind: 'zero', count: 128 }],
  'one chunk more than a leaf': [{ kind: 'chunk', count: 129 }],
  'one hole': [{ kind: 'hole', count: 1_000 }],
  'a leaf of holes between chunks': [
    { kind: 'chunk', count: 100 },
    { kind: 'hole', count: 200 },
    { kind: 'chunk', count: 1 }
  ],
  'holes at the end': [
    { kind: 'zero', count: 3 },
    { kind: 'hole', count: 16_000 }
  ],
  'two levels, full': [{ kind: 'chunk', count: 16_384 }],
  'three levels': [
    { kind: 'chunk', count: 16_384 },
    { kind: 'hole', count: 16_384 },
    { kind: 'zero', count: 1 }
  ]
}

/** The id of the n-th chunk of a tree here. */
export function numberedId(n: number): Buffer {
  const id = Buffer.alloc(32)
  id.writeUInt32LE(n, 0)
  id[31] = 1
  return id
}

function treeCase(name: string, runs: (typeof trees)[string]) {
  let pages = 0
  const writer = new TreeWriter({
    add: () => Promise.resolve({ core: 0, block: ++pages, ordinal: 0 })
  })
  let next = 0
  for (const run of runs) {
    if (run.kind === 'hole') writer.pushHoles(run.count)
    for (let i = 0; run.kind !== 'hole' && i < run.count; i++) {
      if (run.kind === 'zero') writer.push({ kind: 'zero', holes: 0 }, [])
      else writer.push({ kind: 'chunk', id: numberedId(next++), holes: 0 }, [PLACE])
    }
  }
  return { name, runs, root: plain(writer.end().root) }
}

export function storage(): Record<string, VectorFile> {
  return {
    packs: {
      about: 'Bodies of data blocks. The frame of the second gives "hello" and 95 times "x".',
      cases: packs.map((value) => {
        const { kind, codec, items, frame } = value
        const bytes = Buffer.concat([encodePackHeader(kind, codec, items), frame])
        return { record: 'pack', value: plain(value), bytes: plain(bytes) }
      })
    },
    pages: {
      about: 'Pages of id trees with their hashes, and pages of place trees.',
      cases: [
        ...idPages.map((value) => {
          const bytes = encodeIdPage(value)
          const hash = plain(pageHash(bytes))
          return { record: 'id page', value: plain(value), bytes: plain(bytes), hash }
        }),
        ...placePages.map((value) => ({
          record: 'place page',
          value: plain(value),
          bytes: plain(encodePlacePage(value))
        }))
      ]
    },
    trees: {
      about:
        'Roots of files, given as runs of entries. The n-th chunk of a file, from 0, has the id: ' +
        'n as u32 little-endian, 27 zeros, 01. No entry has a mask of holes.',
      cases: Object.entries(trees).map(([name, runs]) => treeCase(name, runs))
    },
    'file-table': {
      about: 'Lines of a file table, each with its length in front.',
      cases: lines.map((value) => ({
        record: 'file table line',
        value: plain(value),
        bytes: plain(encodeFileEntry(value))
      }))
    }
  }
}
