import { spawnSync } from 'node:child_process'
import { copyFile, lstat, mkdir, open, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { filesOf, type RealFile } from './real-files.js'

const CHUNK = 128 * 1_024
const UUID = '6f70617a-6365-4c00-8000-000000000002'
const ROOT = '/usr'

export interface ImageSizes {
  /** Bytes of the image. */
  image: number
  /** Bytes of real files in it. */
  data: number
  /** Bytes of files written into it afterwards; an eighth as much is removed. */
  change: number
}

export interface Images {
  before: string
  after: string
  sizes: ImageSizes
  /** Bytes that are in it: of files, and what the file takes of the disk. */
  data: number
  allocated: number
  /** Chunks of 128 KiB in which the two differ, of how many. */
  differing: number
  chunks: number
}

/** Why no image can be made and measured here, in one line; null when it can. */
export function missingForImages(): string | null {
  if (process.platform !== 'linux') return 'the bench measures on Linux alone'
  for (const program of ['mke2fs', 'debugfs']) {
    const { error } = spawnSync(program, ['-V'], { env: environment() })
    if (error !== undefined) return `no ${program}: apt install e2fsprogs`
  }
  return null
}

/** 1.1 GB of files in 2 GiB, and 137 MB of changes, or the same in small. */
export function sizesFor(megabytes: number): ImageSizes {
  const data = megabytes * 1e6
  const image = Math.ceil((data * (2 ** 31 / 1.1e9)) / 1_048_576) * 1_048_576
  return { image, data, change: Math.floor(data / 8) }
}

/** The images in one line, for the reader of the results. */
export function describeImages({ sizes, data, allocated, differing, chunks }: Images): string {
  return (
    `an ext4 image of ${(sizes.image / 2 ** 20).toFixed(0)} MiB holding ${mb(data)} MB of files ` +
    `(${mb(allocated)} MB on disk); ${mb(sizes.change)} MB of files written into it and an eighth as ` +
    `much removed change ${differing} of its ${chunks} 128 KiB chunks`
  )
}

/**
 * An ext4 file system with files of this machine in it, sparse where it is empty, and the same one
 * after some of them were removed and others written. What is in the files and where they stand
 * follows from the machine's files alone; only inodes hold the time of making.
 */
export async function makeImages(dir: string, sizes: ImageSizes): Promise<Images> {
  const stage = join(dir, 'stage')
  const before = join(dir, 'before.img')
  const after = join(dir, 'after.img')
  const files = filesOf(ROOT, sizes.change)
  const staged = await stageFiles(files, stage, sizes.data)
  await makeFileSystem(before, stage, sizes.image)
  await rm(stage, { recursive: true })
  run('cp', '--sparse=always', before, after)
  await change(after, staged, files, sizes.change)
  const data = staged.reduce((sum, { size }) => sum + size, 0)
  const allocated = (await lstat(before)).blocks * 512
  return { before, after, sizes, data, allocated, ...(await compare(before, after)) }
}

async function stageFiles(
  files: AsyncIterator<RealFile>,
  stage: string,
  most: number
): Promise<RealFile[]> {
  const staged: RealFile[] = []
  for (let bytes = 0; bytes < most;) {
    const { value, done } = await files.next()
    if (done === true) throw new Error(`${ROOT} has only ${mb(bytes)} MB of files: give --data`)
    const to = join(stage, relative(ROOT, value.path))
    await mkdir(dirname(to), { recursive: true })
    await copyFile(value.path, to)
    await utimes(to, value.modified, value.modified)
    staged.push(value)
    bytes += value.size
  }
  return staged
}

async function makeFileSystem(path: string, stage: string, size: number): Promise<void> {
  await writeFile(path, '')
  await truncate(path, size)
  const fixed = ['-U', UUID, '-E', `hash_seed=${UUID},root_owner=0:0`]
  run('mke2fs', '-q', '-F', '-t', 'ext4', '-m', '0', '-i', '8192', ...fixed, '-d', stage, path)
}

/** Removes files all over the image, and writes others into what is free then. */
async function change(
  path: string,
  staged: readonly RealFile[],
  others: AsyncIterator<RealFile>,
  most: number
): Promise<void> {
  const commands: string[] = []
  const step = Math.max(1, Math.floor(staged.length / 997))
  for (let n = 0, bytes = 0; n < staged.length && bytes < most / 8; n += step) {
    const file = staged[n]
    if (file === undefined || file.size < most / 500 || file.size > most / 32) continue
    commands.push(`rm /${relative(ROOT, file.path)}`)
    bytes += file.size
  }
  commands.push('mkdir /written')
  for (let bytes = 0; bytes < most;) {
    const { value, done } = await others.next()
    if (done === true) throw new Error(`${ROOT} has too few files for the changes: give --data`)
    commands.push(`write ${value.path} /written/${commands.length}`)
    bytes += value.size
  }
  const script = `${path}.commands`
  await writeFile(script, commands.join('\n') + '\n')
  const output = run('debugfs', '-w', '-f', script, path)
  if (/could not|no space|not found/i.test(output)) throw new Error(`debugfs: ${output}`)
  await rm(script)
  const check = spawnSync('e2fsck', ['-fn', path], { env: environment(), encoding: 'utf8' })
  if (check.status !== null && check.status > 3) throw new Error(`e2fsck: ${check.stdout}`)
}

async function compare(a: string, b: string): Promise<{ differing: number; chunks: number }> {
  const [left, right] = [await open(a), await open(b)]
  const [ours, theirs] = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)]
  let differing = 0
  let chunks = 0
  try {
    for (;;) {
      const { bytesRead } = await left.read(ours, 0, CHUNK, null)
      await right.read(theirs, 0, CHUNK, null)
      if (bytesRead === 0) return { differing, chunks }
      chunks++
      if (!ours.subarray(0, bytesRead).equals(theirs.subarray(0, bytesRead))) differing++
    }
  } finally {
    await left.close()
    await right.close()
  }
}

function run(program: string, ...args: string[]): string {
  const made = spawnSync(program, args, {
    env: environment(),
    encoding: 'utf8',
    maxBuffer: 2 ** 28
  })
  if (made.error !== undefined) throw made.error
  if (made.status !== 0) throw new Error(`${program} failed: ${made.stdout}${made.stderr}`)
  return made.stdout + made.stderr
}

/** mke2fs and the like are in a folder that a plain user's PATH often lacks. */
function environment(): NodeJS.ProcessEnv {
  const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`
  return { ...process.env, PATH: path, E2FSPROGS_FAKE_TIME: '1700000000' }
}

function mb(bytes: number): string {
  return (bytes / 1e6).toFixed(0)
}
