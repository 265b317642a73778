import { ParcelError } from '../errors.js'

/*
 * A two-pass assembler for 16-bit x86 code with 8-, 16- and 32-bit operands: the forms that our
 * ROM needs and no others. The syntax is NASM's: one instruction a line, `label:`, `; comment`,
 * `name equ 5`, `org`, `db`, `dw`, `dd`; `[x]` is the word at the fixed offset x.
 *
 * Every form has one length, whatever its values (an immediate is as wide as its operand, a
 * conditional jump is short, `jmp` and `call` are near), so the first pass learns all labels and
 * the second writes all bytes. Encodings: Intel 64 and IA-32 SDM, volume 2, "Instruction Format".
 */

type Operand =
  | { kind: 'reg'; bits: 8 | 16 | 32; n: number }
  | { kind: 'sreg'; n: number }
  | { kind: 'mem'; bits: 8 | 16 | 32 | 0; at: string }
  | { kind: 'far'; segment: string; at: string }
  | { kind: 'imm'; text: string }

/** What an instruction is while it is encoded: its bytes so far, and how to get a symbol's value. */
interface Line {
  bytes: number[]
  at: number
  value(text: string): number
}

const R8 = ['al', 'cl', 'dl', 'bl', 'ah', 'ch', 'dh', 'bh']
const R16 = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di']
const SREG = ['es', 'cs', 'ss', 'ds']
const ALU = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp']
const PLAIN = new Map([
  ['cs', 0x2e],
  ['nop', 0x90],
  ['lodsb', 0xac],
  ['ret', 0xc3],
  ['iret', 0xcf],
  ['hlt', 0xf4],
  ['cli', 0xfa],
  ['sti', 0xfb],
  ['cld', 0xfc]
])
const SHORT = new Map([
  ['jb', 0x72],
  ['jae', 0x73],
  ['je', 0x74],
  ['jne', 0x75],
  ['jbe', 0x76],
  ['ja', 0x77],
  ['loop', 0xe2]
])
const SIZES = new Map<string, 8 | 16 | 32>([
  ['byte', 8],
  ['word', 16],
  ['dword', 32]
])

/**
 * Assembles `source` into an image of exactly `size` bytes whose first byte is offset 0; what no
 * line writes is zero. Throws ParcelError FAILED with the number of the line that is wrong.
 */
export function assemble(source: string, size: number): Uint8Array {
  const symbols = new Map<string, number>()
  pass(source, new Uint8Array(size), (name) => symbols.get(name) ?? NaN, symbols)
  const image = new Uint8Array(size)
  pass(source, image, (name) => symbols.get(name) ?? fail(`no symbol ${name}`), null)
  return image
}

function pass(
  source: string,
  image: Uint8Array,
  lookup: (name: string) => number,
  define: Map<string, number> | null
): void {
  let at = 0
  for (const [index, raw] of source.split('\n').entries()) {
    try {
      const set = (name: string, to: number) => {
        if (define?.has(name)) fail(`${name} is defined twice`)
        define?.set(name, to)
      }
      const value = (text: string) => number(text) ?? lookup(text)
      let text = stripComment(raw)
      const label = /^([\w.]+):\s*/.exec(text)
      if (label?.[1] !== undefined) {
        set(label[1], at)
        text = text.slice(label[0].length)
      }
      const [, name = '', rest = ''] = /^(\S*)\s*(.*)$/.exec(text) ?? []
      if (name === '') continue
      const equ = /^equ\s+(\S+)$/.exec(rest)
      if (equ?.[1] !== undefined) set(name, known(value(equ[1])))
      else if (name === 'org') at = range(known(value(rest)), at, image.length)
      else {
        const line: Line = { bytes: [], at, value }
        encode(line, name, split(rest))
        range(at + line.bytes.length, 0, image.length)
        image.set(line.bytes, at)
        at += line.bytes.length
      }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new ParcelError('FAILED', `line ${index + 1}: ${raw.trim()}: ${reason}`, error)
    }
  }
}

function encode(line: Line, name: string, args: string[]): void {
  const data = ['db', 'dw', 'dd'].indexOf(name)
  if (data >= 0) {
    for (const text of args) {
      const string = /^"(.*)"$/.exec(text)?.[1]
      if (string === undefined) put(line, 8 << data, line.value(text))
      else line.bytes.push(...Buffer.from(string, 'latin1'))
    }
    return
  }
  const [a, b] = args.map(operand)
  const plain = PLAIN.get(name)
  const short = SHORT.get(name)
  const alu = ALU.indexOf(name)
  if (plain !== undefined && a === undefined) line.bytes.push(plain)
  else if (short !== undefined && a?.kind === 'imm') relative(line, short, 8, a.text)
  else if (name === 'call' && a?.kind === 'imm') relative(line, 0xe8, 16, a.text)
  else if (name === 'jmp' && a?.kind === 'imm') relative(line, 0xe9, 16, a.text)
  else if (name === 'jmp' && a?.kind === 'far') {
    line.bytes.push(0xea)
    put(line, 16, line.value(a.at))
    put(line, 16, line.value(a.segment))
  } else if ((name === 'in' || name === 'out') && a && b) port(line, name, a, b)
  else if ((name === 'push' || name === 'pop') && a?.kind === 'reg' && a.bits > 8) {
    open(line, a.bits, (name === 'push' ? 0x50 : 0x58) + a.n)
  } else if ((name === 'inc' || name === 'dec') && a && !b) {
    oneOperand(line, 0xfe, name === 'inc' ? 0 : 1, a)
  } else if (name === 'div' && a && !b) oneOperand(line, 0xf6, 6, a)
  else if ((name === 'shl' || name === 'shr') && a?.kind === 'reg' && b?.kind === 'imm') {
    oneOperand(line, 0xc0, name === 'shl' ? 4 : 5, a)
    put(line, 8, line.value(b.text))
  } else if (name === 'mov' && a && b) mov(line, a, b)
  else if (alu >= 0 && a && b) twoOperands(line, alu << 3, 0x80, alu, a, b)
  else if (name === 'test' && a?.kind === 'reg' && b && b.kind !== 'mem') {
    twoOperands(line, 0x84, 0xf6, 0, a, b)
  } else fail('no such instruction')
}

function mov(line: Line, a: Operand, b: Operand): void {
  if (a.kind === 'sreg' && b.kind === 'reg' && b.bits === 16) {
    line.bytes.push(0x8e, 0xc0 | (a.n << 3) | b.n)
  } else if (a.kind === 'reg' && b.kind === 'imm') {
    open(line, a.bits, (a.bits === 8 ? 0xb0 : 0xb8) + a.n)
    put(line, a.bits, line.value(b.text))
  } else twoOperands(line, 0x88, 0xc6, 0, a, b)
}

/** `op` is the opcode of "r/m8, r8"; `op | 2` swaps the two; `immediate` /`n` takes a constant. */
function twoOperands(
  line: Line,
  op: number,
  immediate: number,
  n: number,
  a: Operand,
  b: Operand
): void {
  if (b.kind === 'imm') {
    const bits = oneOperand(line, immediate, n, a)
    put(line, bits, line.value(b.text))
  } else if (b.kind === 'reg') oneOperand(line, op, b.n, sized(a, b.bits))
  else if (a.kind === 'reg' && b.kind === 'mem') oneOperand(line, op | 2, a.n, sized(b, a.bits))
  else fail('no such operands')
}

/** Opcode, then ModRM with `n` in its reg field; the opcode's low bit says "not a byte". */
function oneOperand(line: Line, op: number, n: number, a: Operand): number {
  if (a.kind !== 'reg' && a.kind !== 'mem') return fail('no such operand')
  if (a.bits === 0) return fail('say byte, word or dword')
  open(line, a.bits, op | (a.bits === 8 ? 0 : 1))
  if (a.kind === 'reg') line.bytes.push(0xc0 | (n << 3) | a.n)
  else {
    line.bytes.push((n << 3) | 6)
    put(line, 16, line.value(a.at))
  }
  return a.bits
}

function port(line: Line, name: 'in' | 'out', a: Operand, b: Operand): void {
  const [data, where] = name === 'in' ? [a, b] : [b, a]
  if (data.kind !== 'reg' || data.n !== 0) return fail('only al, ax or eax')
  const op = (name === 'in' ? 0xe4 : 0xe6) | (data.bits === 8 ? 0 : 1)
  if (where.kind === 'imm') {
    open(line, data.bits, op)
    put(line, 8, line.value(where.text))
  } else if (where.kind === 'reg' && where.bits === 16 && where.n === 2) {
    open(line, data.bits, op | 8)
  } else fail('a port is dx or a constant')
}

function relative(line: Line, op: number, bits: 8 | 16, target: string): void {
  line.bytes.push(op)
  const from = line.at + 1 + bits / 8
  put(line, bits, range(line.value(target) - from, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
}

function open(line: Line, bits: number, opcode: number): void {
  if (bits === 32) line.bytes.push(0x66)
  line.bytes.push(opcode)
}

function put(line: Line, bits: number, value: number): void {
  range(value, -(2 ** (bits - 1)), 2 ** bits - 1)
  for (let shift = 0; shift < bits; shift += 8) line.bytes.push((value >> shift) & 0xff)
}

function sized(a: Operand, bits: 8 | 16 | 32): Operand {
  if (a.kind === 'mem' && a.bits === 0) return { ...a, bits }
  if ((a.kind === 'mem' || a.kind === 'reg') && a.bits !== bits) fail('operands differ in size')
  return a
}

function operand(text: string): Operand {
  if (R8.includes(text)) return { kind: 'reg', bits: 8, n: R8.indexOf(text) }
  if (R16.includes(text)) return { kind: 'reg', bits: 16, n: R16.indexOf(text) }
  if (text.startsWith('e') && R16.includes(text.slice(1))) {
    return { kind: 'reg', bits: 32, n: R16.indexOf(text.slice(1)) }
  }
  if (SREG.includes(text)) return { kind: 'sreg', n: SREG.indexOf(text) }
  const mem = /^(?:(byte|word|dword)\s+)?\[([\w.]+)\]$/.exec(text)
  if (mem?.[2] !== undefined) {
    return { kind: 'mem', bits: SIZES.get(mem[1] ?? '') ?? 0, at: mem[2] }
  }
  const far = /^([\w.]+):([\w.]+)$/.exec(text)
  if (far?.[1] !== undefined && far[2] !== undefined) {
    return { kind: 'far', segment: far[1], at: far[2] }
  }
  return { kind: 'imm', text }
}

function number(text: string): number | undefined {
  if (/^'.'$/.test(text)) return text.charCodeAt(1)
  if (/^(0x[0-9a-f]+|-?\d+)$/i.test(text)) return Number(text)
  return undefined
}

function stripComment(raw: string): string {
  return (/^(?:"[^"]*"|'.'|[^;])*/.exec(raw)?.[0] ?? '').trim()
}

function split(text: string): string[] {
  return text.match(/(?:"[^"]*"|'.'|[^,])+/g)?.map((part) => part.trim()) ?? []
}

/** A symbol that the first pass has not met yet is NaN, and NaN is in every range. */
function range(value: number, low: number, high: number): number {
  return value < low || value > high ? fail(`${value} is out of range`) : value
}

/** A value that decides where later code goes: it must be known at once. */
function known(value: number): number {
  return Number.isNaN(value) ? fail('use a symbol that is defined above') : value
}

function fail(message: string): never {
  throw new ParcelError('FAILED', message)
}
