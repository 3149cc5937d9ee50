// Prisma with its adapter over node-postgres. `npx prisma generate` makes the client from prisma/schema.prisma.
const { PrismaPg } = require('@prisma/adapter-pg')
const { PrismaClient } = require('@prisma/client')
const { retry, run } = require('./shop')

// Prisma's SQL names the schema; RACEBENCH_SCHEMA is the one with the tables. Without it, it is "public".
const adapter = new PrismaPg(
  { connectionString: process.env.DATABASE_URL },
  { schema: process.env.RACEBENCH_SCHEMA },
)
const prisma = new PrismaClient({ adapter })

async function createOrder(prisma) {
  const { _max } = await prisma.order.aggregate({ _max: { number: true } })
  const { number } = await prisma.order.create({ data: { number: (_max.number ?? 0) + 1 } })
  return number
}

// While a request waits for its turn, its transaction is open.
const limits = { maxWait: 600_000, timeout: 600_000 }

run(
  {
    transaction: () => prisma.$transaction(createOrder, limits),
    autocommit: () => createOrder(prisma),
    locked: () =>
      prisma.$transaction(async (prisma) => {
        await prisma.$executeRaw`SELECT pg_advisory_xact_lock(42)`
        return createOrder(prisma)
      }, limits),
    unique: () => retry((error) => error.code === 'P2002', () => prisma.$transaction(createOrder, limits)),
  },
  () => prisma.$disconnect(),
)
