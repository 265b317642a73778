import { createHash } from 'node:crypto'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import type { Facts, Mismatch } from './driver.js'
import { isServed, type MachineFolder } from './machine-folder.js'
import { filePath, findFile, MACHINE_FILE, MACHINE_FILE_LIMIT } from './machine-file.js'
import { builtInRom } from './rom.js'

const SIZES = ['1M', '2M', '4M', '8M', '16M', '32M', '64M', '128M', '256M', '512M', '1G']
const ROM_SIZES = new Set([64, 128, 256].map((kib) => kib * 1024))

const require = createRequire(import.meta.url)
const { version } = z.object({ version: z.string() }).parse(require('v86/package.json'))
const VMM = `v86 ${version}`

const machineFile = z.strictObject(
  {
    vmm: z.literal('v86', 'must be "v86"'),
    memory: z
      .enum(SIZES, `must be one of "${SIZES.join('", "')}"`)
      .transform((text) => 2 ** (20 + SIZES.indexOf(text))),
    bios: filePath.optional(),
    disks: z
      .array(z.strictObject({ file: filePath }, fields('file')), 'must be a list of disks')
      .max(1, 'must be one disk or none')
      .default([])
  },
  fields('vmm, memory, bios, disks')
)

/** A file that the machine file names: as named, its absolute path (none when it is served), and its bytes. */
interface LocalFile {
  path: string
  real: string
  size: number
}

/** A checked machine file; `memory` is in bytes, `bios` null means the built-in ROM. */
interface Spec {
  memory: number
  bios: LocalFile | null
  disk: LocalFile | null
}

/**
 * Writes a machine file of 4 MiB with the folder's first image as its disk, unless there is a
 * machine file. Returns whether it wrote one.
 */
export async function writeDefault(dir: string): Promise<boolean> {
  const files = (await readdir(dir, { withFileTypes: true })).filter((entry) => entry.isFile())
  const images = files.map((entry) => entry.name).filter((name) => name.endsWith('.img'))
  const file = images.toSorted()[0]
  const spec = { vmm: 'v86', memory: '4M', ...(file !== undefined && { disks: [{ file }] }) }
  try {
    const text = `${JSON.stringify(spec, null, 2)}\n`
    await writeFile(join(dir, MACHINE_FILE), text, { flag: 'wx' })
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw ParcelError.from(error, MACHINE_FILE)
  }
}

/**
 * Reads and checks the machine file, and that each file it names is one of the folder.
 * Throws BAD_MACHINE, naming the field and what is allowed.
 */
export async function readSpec(folder: MachineFolder): Promise<Spec> {
  const { dir } = folder
  const file = await locate(dir, MACHINE_FILE, 'BAD_MACHINE')
  if (file.size > MACHINE_FILE_LIMIT) throw bad(MACHINE_FILE, 'must be 64 KiB or less')
  let json: unknown
  try {
    json = JSON.parse(await readFile(file.real, 'utf8'))
  } catch (error) {
    throw bad(MACHINE_FILE, `must be JSON: ${ParcelError.from(error).message}`, error)
  }
  const parsed = machineFile.safeParse(json)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const field = issue?.path.join('.') ?? ''
    throw bad(`${MACHINE_FILE}${field && `: ${field}`}`, String(issue?.message))
  }
  const { memory, bios, disks } = parsed.data
  const spec: Spec = { memory, bios: null, disk: null }
  if (bios !== undefined) spec.bios = await locate(dir, bios, 'BAD_MACHINE')
  const path = disks[0]?.file
  if (path !== undefined && isServed(folder, path)) {
    const size = folder.images?.volume(path)?.size
    // A process that does not have the image only wants to know its name.
    spec.disk = { path, real: '', size: size ?? 512 }
  } else if (path !== undefined) {
    spec.disk = await locate(dir, path, 'BAD_MACHINE')
  }
  if (spec.bios !== null && !ROM_SIZES.has(spec.bios.size)) {
    throw bad(spec.bios.path, 'must be a ROM of 64, 128 or 256 KiB')
  }
  if (spec.disk !== null && (spec.disk.size === 0 || spec.disk.size % 512 !== 0)) {
    throw bad(spec.disk.path, 'must be a raw disk image: a multiple of 512 bytes, not empty')
  }
  return spec
}

/** The facts of the folder's machine: v86's version, memory and disk in bytes, the ROM's hash. */
export async function readFacts(folder: MachineFolder): Promise<Facts> {
  const { memory, bios, disk } = await readSpec(folder)
  return {
    vmm: VMM,
    memory: String(memory),
    bios: bios === null ? builtIn() : `${bios.path} ${sha256(await readFile(bios.real))}`,
    ...(disk !== null && { [`disk:${disk.path}`]: String(disk.size) })
  }
}

/** What of a version's facts this host cannot do. */
export function compareFacts({ vmm = '', memory = '', bios = '' }: Facts): Mismatch[] {
  const found: Mismatch[] = []
  const limit = Math.min(2 ** 30, totalmem())
  if (vmm !== VMM) {
    const advice = 'use the hyperparcel release that suspended it: its v86 is another version'
    found.push({ fact: 'vmm', wanted: vmm, here: VMM, advice })
  }
  if (!/^\d+$/.test(memory) || Number(memory) > limit) {
    const advice = 'resume it on a host with more memory; 1 GiB is the most that v86 can have'
    found.push({ fact: 'memory', wanted: memory, here: String(limit), advice })
  }
  if (bios.startsWith('built-in ') && bios !== builtIn()) {
    const advice = 'use the hyperparcel release that suspended it: its built-in ROM is another'
    found.push({ fact: 'bios', wanted: bios, here: builtIn(), advice })
  }
  return found
}

/**
 * A file of the folder; one that a link leads out of it is refused, since parcels come from others.
 * Throws `code` when it is not there, leads out or is not a plain file.
 */
export async function locate(
  dir: string,
  path: string,
  code: 'BAD_MACHINE' | 'VMM_FAILED'
): Promise<LocalFile> {
  const found = await findFile(dir, path)
  if (found.is === 'file') return { path, real: found.real, size: found.size }
  if (found.is === 'outside') {
    throw new ParcelError(code, `${path} leads out of the folder: put the file itself there`)
  }
  if (found.is === 'other') throw new ParcelError(code, `${path} must be a plain file`)
  const { message } = ParcelError.from(found.cause)
  throw new ParcelError(code, `${path} is not there: ${message}`, found.cause)
}

/** A BAD_MACHINE error: `what` is the file or field, `problem` what it must be. */
export function bad(what: string, problem: string, cause?: unknown): ParcelError {
  return new ParcelError('BAD_MACHINE', `${what} ${problem}`, cause)
}

function fields(list: string) {
  return {
    error: (issue: z.core.$ZodRawIssue) =>
      issue.code === 'unrecognized_keys'
        ? `has the unknown field "${issue.keys.join('", "')}"; the fields are ${list}`
        : `must be an object with the fields ${list}`
  }
}

function builtIn(): string {
  return `built-in ${sha256(builtInRom())}`
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}
