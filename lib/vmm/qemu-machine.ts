import { open, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { isServed, type MachineFolder } from './machine-folder.js'
import { filePath, findFile, MACHINE_FILE, MACHINE_FILE_LIMIT } from './machine-file.js'
import { argsProblem } from './qemu-args.js'

const MEMORY_MIN = 16 * 2 ** 20
const MEMORY_MAX = 4 * 2 ** 40

const disk = z.strictObject(
  {
    file: filePath,
    format: z.enum(['raw', 'qcow2'], 'must be "raw" or "qcow2"'),
    readonly: z.boolean('must be true or false').optional()
  },
  fields('file, format, readonly')
)

const machineFile = z
  .strictObject(
    {
      vmm: z.literal('qemu', 'must be "qemu"'),
      machine: z
        .string('must be a versioned machine type, for example "pc-q35-7.2"')
        .regex(
          /^pc-(q35|i440fx)-\d+\.\d+(\.\d+)?$/,
          'must be a versioned machine type, for example "pc-q35-7.2": "q35" and "pc" mean another machine with every QEMU'
        ),
      cpu: z
        .string('must be a versioned CPU model, for example "qemu64-v1"')
        .regex(
          /^(?!host-|max-)[A-Za-z0-9][A-Za-z0-9_.-]*-v\d+$/,
          'must be a versioned CPU model, for example "qemu64-v1" (qemu-system-x86_64 -cpu help): "host" and "max" differ from host to host'
        ),
      accelerator: z.enum(
        ['tcg', 'kvm'],
        'must be "tcg" (runs anywhere) or "kvm" (fast, needs /dev/kvm)'
      ),
      memory: z
        .string('must be a size such as "256M" or "2G"')
        .regex(/^[1-9]\d{0,6}[MG]$/, 'must be a size such as "256M" or "2G"')
        .transform((text) => parseInt(text) * (text.endsWith('G') ? 2 ** 30 : 2 ** 20))
        .refine((bytes) => bytes >= MEMORY_MIN && bytes <= MEMORY_MAX, 'must be from 16M to 4096G'),
      smp: z
        .int('must be a number of CPUs from 1 to 255')
        .min(1, 'must be 1 or more')
        .max(255, 'must be 255 or less'),
      disks: z.array(disk, 'must be a list of disks').max(8, 'must be 8 disks or fewer'),
      kernel: filePath.optional(),
      initrd: filePath.optional(),
      append: z
        .string('must be the kernel command line')
        .max(2000, 'must be 2000 characters or fewer')
        .regex(/^[\x20-\x7e]*$/, 'must be printable ASCII')
        .optional(),
      firmware: filePath.optional(),
      nvram: filePath.optional(),
      network: z.enum(['user', 'none'], 'must be "user" or "none"'),
      display: z.enum(['vnc', 'none'], 'must be "vnc" or "none"'),
      args: z
        .array(z.string('must be text'), 'must be a list of QEMU arguments')
        .superRefine((args, context) => {
          const problem = argsProblem(args)
          if (problem !== null) context.addIssue({ code: 'custom', message: problem })
        })
        .optional()
    },
    fields(
      'vmm, machine, cpu, accelerator, memory, smp, disks, kernel, initrd, append, firmware, nvram, network, display, args'
    )
  )
  .superRefine((spec, context) => {
    const needs = (field: 'initrd' | 'append' | 'nvram', other: 'kernel' | 'firmware'): void => {
      if (spec[field] === undefined || spec[other] !== undefined) return
      context.addIssue({ code: 'custom', path: [field], message: `must come with "${other}"` })
    }
    needs('initrd', 'kernel')
    needs('append', 'kernel')
    needs('nvram', 'firmware')
    const files = filesOf(spec)
    const twice = files.find((file, i) => files.indexOf(file) !== i)
    if (twice !== undefined) {
      context.addIssue({ code: 'custom', message: `must name "${twice}" once` })
    }
  })

/** A checked machine file. `memory` is in bytes; paths are relative to the folder. */
export type MachineSpec = z.output<typeof machineFile>
export type Disk = z.output<typeof disk>

/**
 * Checks the text of a machine file by itself, without looking at the folder.
 * Throws BAD_MACHINE, naming the field and what is allowed.
 */
export function parseMachine(text: string): MachineSpec {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw bad(`is not JSON: ${error instanceof Error ? error.message : String(error)}`, error)
  }
  const parsed = machineFile.safeParse(json)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  if (issue === undefined) throw new Error('a failed parse has an issue')
  const field = issue.path.map(String).join('.')
  throw bad(field === '' ? issue.message : `"${field}" ${issue.message}`, parsed.error)
}

/**
 * Reads and checks the machine file of a folder, and that every file it names is a regular file
 * inside the folder, but for those that are served: a machine comes from another host, and may name any path.
 * Throws BAD_MACHINE.
 */
export async function readMachine(folder: MachineFolder): Promise<MachineSpec> {
  const { dir } = folder
  const spec = parseMachine(await readText(join(dir, MACHINE_FILE)))
  for (const file of filesOf(spec)) {
    if (isServed(folder, file)) continue
    const { is } = await findFile(dir, file)
    if (is === 'missing') throw bad(`names "${file}", which is not in the folder`)
    if (is === 'outside') throw bad(`names "${file}", a link that leads out of the folder`)
    if (is === 'other') throw bad(`names "${file}", which is not a regular file`)
  }
  return spec
}

/**
 * Writes a machine file for what is in the folder: the first disk image by name, a kernel and an
 * initrd if there are any. It asks for TCG and an old CPU model, which every host has.
 * Returns whether it wrote one. Throws BAD_MACHINE when there is nothing to boot from.
 */
export async function writeDefaultMachine(dir: string): Promise<boolean> {
  const names = (await readdir(dir)).toSorted()
  if (names.includes(MACHINE_FILE)) return false
  const kernel = names.find((name) => /^(vmlinuz.*|bzImage)$/.test(name))
  const initrd = names.find((name) => /^(initrd|initramfs)/.test(name))
  const image = names.find(
    (name) => name !== initrd && name !== kernel && /\.(img|raw|qcow2)$/.test(name)
  )
  if (image === undefined && kernel === undefined) {
    throw bad(
      'is missing, and the folder has no disk image (*.img, *.raw, *.qcow2) or kernel (vmlinuz*)'
    )
  }
  const spec = {
    vmm: 'qemu',
    machine: 'pc-q35-7.2',
    cpu: 'qemu64-v1',
    accelerator: 'tcg',
    memory: '512M',
    smp: 1,
    disks:
      image === undefined
        ? []
        : [{ file: image, format: image.endsWith('.qcow2') ? 'qcow2' : 'raw' }],
    ...(kernel === undefined ? {} : { kernel, append: 'console=ttyS0' }),
    ...(kernel === undefined || initrd === undefined ? {} : { initrd }),
    network: 'user',
    display: 'vnc'
  } satisfies z.input<typeof machineFile>
  await writeFile(join(dir, MACHINE_FILE), JSON.stringify(spec, null, 2) + '\n', { flag: 'wx' })
  return true
}

/** A BAD_MACHINE error; `problem` continues a sentence that begins with the machine file's name. */
export function bad(problem: string, cause?: unknown): ParcelError {
  return new ParcelError('BAD_MACHINE', `${MACHINE_FILE} ${problem}`, cause)
}

function filesOf(spec: MachineSpec): string[] {
  const single = [spec.kernel, spec.initrd, spec.firmware, spec.nvram]
  return [...spec.disks.map((one) => one.file), ...single.filter((file) => file !== undefined)]
}

async function readText(file: string): Promise<string> {
  const handle = await open(file, 'r').catch((error: unknown) => {
    throw bad('cannot be read', error)
  })
  try {
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(MACHINE_FILE_LIMIT + 1),
      0,
      MACHINE_FILE_LIMIT + 1,
      0
    )
    if (bytesRead > MACHINE_FILE_LIMIT) throw bad('is larger than 64 KiB')
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await handle.close()
  }
}

/** The message for a field that is not one of ours, or for no object at all. */
function fields(allowed: string): { error: z.core.$ZodErrorMap<ObjectIssue> } {
  return {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `has the unknown field "${issue.keys.join('", "')}"; allowed are ${allowed}`
        : `must be an object with ${allowed}`
  }
}

type ObjectIssue = z.core.$ZodIssueInvalidType | z.core.$ZodIssueUnrecognizedKeys
